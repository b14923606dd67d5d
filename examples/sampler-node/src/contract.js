// The messages of the wire: WiseRL's protos, and the parts of two others that they stand on.
// docs/writing-a-sampler.md: its first lines; "Retries" (statuses) and "Models" (ONNX).

import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

// Integers of 64 bits come as decimal text: ids and seeds are handed back as they are, and what is
// counted with is made a Number.
const AS = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };

const load = (file, folder) => {
  const includeDirs = [fileURLToPath(new URL(folder, import.meta.url))];
  return protoLoader.loadSync(file, { ...AS, includeDirs });
};

/** The messages of the learner by their full names. */
export const wire = load('wiserl/v1/learner.proto', '../../../protos');
const status = load('status.proto', '../protos');

export const { LearnerService } = grpc.loadPackageDefinition(wire).wiserl.v1;
export const Status = status['google.rpc.Status'];
export const ErrorInfo = status['google.rpc.ErrorInfo'];
export const RetryInfo = status['google.rpc.RetryInfo'];
export const Model = load('onnx-subset.proto', '../protos')['onnx.Model'];
