// The messages of the wire: WiseRL's contract, and the parts of two others that it stands on.

import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

const OWN_PROTOS = fileURLToPath(new URL('../protos', import.meta.url));

/** Where the contract lies in a checkout of WiseRL. */
export const CONTRACT_PROTOS = fileURLToPath(new URL('../../../protos', import.meta.url));

// Integers of 64 bits come as decimal text: ids are handed back as they are, and what is counted with
// is made a BigInt or, where it is small, a Number.
const AS = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };

/** Loads all protos; `folder` holds `wiserl/v1/*.proto`. */
export function loadContract(folder = CONTRACT_PROTOS) {
  const wire = protoLoader.loadSync('wiserl/v1/learner.proto', { ...AS, includeDirs: [folder] });
  const status = protoLoader.loadSync('status.proto', { ...AS, includeDirs: [OWN_PROTOS] });
  const onnx = protoLoader.loadSync('onnx-subset.proto', { ...AS, includeDirs: [OWN_PROTOS] });
  return {
    LearnerService: grpc.loadPackageDefinition(wire).wiserl.v1.LearnerService,
    Registration: wire['wiserl.v1.RegisterResponse'],
    Push: wire['wiserl.v1.PushTrajectoriesRequest'],
    Status: status['google.rpc.Status'],
    ErrorInfo: status['google.rpc.ErrorInfo'],
    RetryInfo: status['google.rpc.RetryInfo'],
    Model: onnx['onnx.Model'],
  };
}
