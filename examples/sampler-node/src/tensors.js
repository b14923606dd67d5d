// The tensor codec: typed arrays to `Tensor` messages and back, every size checked first.

import { endianness } from 'node:os';

if (endianness() !== 'LE') {
  throw new Error('tensors travel little-endian, and this machine is big-endian');
}

// By DataType without its prefix: the array that holds its elements, and ONNX Runtime's name for it.
// A float16 is kept as its 16 bits, which nothing here computes with.
const KINDS = {
  BOOL: [Uint8Array, 'bool'],
  UINT8: [Uint8Array, 'uint8'],
  UINT16: [Uint16Array, 'uint16'],
  UINT32: [Uint32Array, 'uint32'],
  UINT64: [BigUint64Array, 'uint64'],
  INT8: [Int8Array, 'int8'],
  INT16: [Int16Array, 'int16'],
  INT32: [Int32Array, 'int32'],
  INT64: [BigInt64Array, 'int64'],
  FLOAT16: [Uint16Array, 'float16'],
  FLOAT32: [Float32Array, 'float32'],
  FLOAT64: [Float64Array, 'float64'],
};

const PREFIX = 'DATA_TYPE_';

/** The array class and ONNX Runtime's name of a DataType such as `DATA_TYPE_FLOAT32`. */
export function kindOf(dtype) {
  const kind = KINDS[dtype.slice(PREFIX.length)];
  if (!dtype.startsWith(PREFIX) || !kind) {
    throw new RangeError(`dtype ${dtype} is none of ${Object.keys(KINDS).join(', ')}`);
  }
  return { Elements: kind[0], ortType: kind[1] };
}

/** The dimensions of a message as numbers. */
export function shapeOf(message) {
  return message.shape.map(Number);
}

/** The number of elements of a shape, which is 1 for a scalar. */
export function sizeOf(shape) {
  // A 0 hides no other dimension: [0, 2^62, 4] is refused as well.
  const bound = shape.reduce((product, size) => product * (size || 1), 1);
  if (!Number.isSafeInteger(bound * 8)) {
    throw new RangeError(`shape [${shape}] is larger than any array can be`);
  }
  return shape.includes(0) ? 0 : bound;
}

/** A `Tensor` message over the bytes of a typed array, which are not copied. */
export function encode(dtype, shape, elements) {
  if (elements.length !== sizeOf(shape)) {
    throw new RangeError(`${elements.length} elements are not those of shape [${shape}]`);
  }
  const { buffer, byteOffset, byteLength } = elements;
  return { dtype, shape, data: Buffer.from(buffer, byteOffset, byteLength) };
}

/** Dtype, shape and a typed array of its own of a `Tensor` message. */
export function decode(message) {
  const { Elements } = kindOf(message.dtype);
  const shape = shapeOf(message);
  const expected = sizeOf(shape) * Elements.BYTES_PER_ELEMENT;
  if (message.data.length !== expected) {
    throw new RangeError(
      `${message.data.length} bytes, but shape [${shape}] of ${message.dtype} takes ${expected}`,
    );
  }
  // Copied, since a typed array must begin at a multiple of its element's width.
  const elements = new Elements(Uint8Array.from(message.data).buffer);
  if (message.dtype === `${PREFIX}BOOL` && elements.some((element) => element > 1)) {
    throw new RangeError('a bool is neither 0 nor 1');
  }
  return { dtype: message.dtype, shape, elements };
}
