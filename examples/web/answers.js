// What a client computes of the opened outputs: a last softmax, the place of the largest logit. The table of mpcc.client.answers.
//
//   computed([{shape: [1, 10], values: logits}], [[0, ["softmax", -1]]])        -> [{shape: [1, 10], values: probabilities}]

/** How many values a shape has. */
export const words = (shape) => shape.reduce((product, size) => product * size, 1);

/** `compute` of every row of a value along a dimension, which gives a row of any one size. */
function along({ shape, values }, dim, compute) {
  const axis = dim < 0 ? dim + shape.length : dim, size = shape[axis], inner = words(shape.slice(axis + 1));
  const outer = words(shape.slice(0, axis)), rows = [];
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      rows.push(compute(Array.from({ length: size }, (_, k) => values[(o * size + k) * inner + i])));
    }
  }
  const made = new Float64Array(rows.length * rows[0].length);
  rows.forEach((row, at) => row.forEach((one, k) => {
    made[(Math.floor(at / inner) * row.length + k) * inner + (at % inner)] = one;
  }));
  return { shape: [...shape.slice(0, axis), rows[0].length, ...shape.slice(axis + 1)], values: made };
}

/** Places by decreasing (or increasing) value; the first of equal ones first. */
const ordered = (row, largest) => row.map((_, k) => k).sort((a, b) => (largest ? row[b] - row[a] : row[a] - row[b]) || a - b);

function softmax(row) {
  const most = Math.max(...row), powers = row.map((x) => Math.exp(x - most)), sum = powers.reduce((a, b) => a + b);
  return powers.map((x) => x / sum);
}

function place(value, dim, keep, largest) {
  const made = along(value, dim, (row) => [ordered(row, largest)[0]]);
  const axis = dim < 0 ? dim + value.shape.length : dim;
  return keep ? made : { ...made, shape: made.shape.filter((_, i) => i !== axis) };
}

function permuted({ shape, values }, order) {
  const turned = order.map((dim) => (dim < 0 ? dim + shape.length : dim)), made = new Float64Array(values.length);
  const strides = shape.map((_, i) => words(shape.slice(i + 1))), sizes = turned.map((dim) => shape[dim]);
  for (let at = 0; at < made.length; at++) {
    let rest = at, from = 0;
    for (let i = sizes.length - 1; i >= 0; i--) {
      from += (rest % sizes[i]) * strides[turned[i]];
      rest = Math.floor(rest / sizes[i]);
    }
    made[at] = values[from];
  }
  return { shape: sizes, values: made };
}

function reshaped({ shape, values }, sizes) {
  const known = words(sizes.filter((size) => size !== -1));
  const made = sizes.map((size) => (size === -1 ? values.length / known : size));
  if (words(made) !== values.length) throw new Error(`${shape} into ${sizes}`);
  return { shape: made, values };
}

const STEPS = {
  softmax: (value, dim) => along(value, dim, softmax),
  log_softmax: (value, dim) => along(value, dim, (row) => {
    const most = Math.max(...row), log = Math.log(row.reduce((sum, x) => sum + Math.exp(x - most), 0));
    return row.map((x) => x - most - log);
  }),
  sigmoid: ({ shape, values }) => ({ shape, values: values.map((x) => (1 + Math.tanh(x / 2)) / 2) }),
  argmax: (value, dim, keep) => place(value, dim, keep, true),
  argmin: (value, dim, keep) => place(value, dim, keep, false),
  largest: (value, k, dim, largest) => along(value, dim, (row) => ordered(row, largest).slice(0, k).map((i) => row[i])),
  places: (value, k, dim, largest) => along(value, dim, (row) => ordered(row, largest).slice(0, k)),
  scale: ({ shape, values }, factor) => ({ shape, values: values.map((x) => x * factor) }),
  reshape: (value, ...sizes) => reshaped(value, sizes),
  permute: (value, ...order) => permuted(value, order),
};

/** Whether all steps are known here and every source is one of so many outputs. */
export const known = (answers, outputs) => answers == null || (Array.isArray(answers) && answers.length > 0 && answers.every(
  (one) => Array.isArray(one) && Number.isInteger(one[0]) && one[0] >= 0 && one[0] < outputs
    && one.slice(1).every((step) => Array.isArray(step) && Object.hasOwn(STEPS, step[0])),
));

/** The model's outputs of the opened ones: [{shape, values}]. `answers` as the servers list them; null: they are the outputs. */
export function computed(opened, answers) {
  if (!answers) return opened;
  return answers.map(([source, ...steps]) => steps.reduce((value, [name, ...rest]) => STEPS[name](value, ...rest), opened[source]));
}

/** The class that the first output names first. */
export function topOf(opened, outputs, answers) {
  const [source, ...steps] = answers?.[0] ?? [0], names = steps.map(([name]) => name);
  if (names.some((name) => ["argmax", "argmin", "places"].includes(name))) return outputs[0].values[0];
  const { values } = names.includes("largest") ? opened[source] : outputs[0];
  return values.indexOf(Math.max(...values));
}
