// The tensor codec: typed arrays to `Tensor` messages and back, every size checked first.
// docs/writing-a-sampler.md: "Rows"; protos/wiserl/v1/tensor.proto. Elements are little-endian, as is
// every machine that onnxruntime-node is built for.

const PREFIX = 'DATA_TYPE_';
// A float16 is kept as its 16 bits, which nothing here computes with.
const ARRAYS = {
  BOOL: Uint8Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  UINT64: BigUint64Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  INT64: BigInt64Array,
  FLOAT16: Uint16Array,
  FLOAT32: Float32Array,
  FLOAT64: Float64Array,
};

/** The array class and ONNX Runtime's name of a DataType such as `DATA_TYPE_FLOAT32`. */
export function kindOf(dtype) {
  const name = dtype.replace(PREFIX, '');
  if (!(name in ARRAYS)) {
    throw new RangeError(`dtype ${dtype} is none of ${Object.keys(ARRAYS).join(', ')}`);
  }
  return { Elements: ARRAYS[name], ortType: name.toLowerCase() };
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
export function decode({ dtype, shape: dimensions, data }) {
  const { Elements } = kindOf(dtype);
  const shape = dimensions.map(Number);
  const expected = sizeOf(shape) * Elements.BYTES_PER_ELEMENT;
  if (data.length !== expected) {
    const found = `${data.length} bytes`;
    throw new RangeError(`${found}, but shape [${shape}] of ${dtype} takes ${expected}`);
  }
  // Copied, since a typed array must begin at a multiple of its element's width.
  const elements = new Elements(Uint8Array.from(data).buffer);
  if (dtype === `${PREFIX}BOOL` && elements.some((element) => element > 1)) {
    throw new RangeError('a bool is neither 0 nor 1');
  }
  return { dtype, shape, elements };
}
