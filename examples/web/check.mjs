// What tests run under node: one task in on stdin as JSON, its result out on stdout.
import { computed, topOf } from "./answers.js";
import { Client, encode, inputOutside, joined, preprocessed, randomBytes, split } from "./mpcc.js";

const TASKS = {
  preprocess: ({ picture, how }) => Array.from(preprocessed({ ...picture, data: Uint8ClampedArray.from(picture.data) }, how)),
  shares: ({ values, scale }) => {
    const [first, second] = split(encode(values, scale));
    return { first: Array.from(first), second: Array.from(second), back: Array.from(joined(first, second, scale)) };
  },
  outside: ({ values, seen, calls }) => inputOutside(values, seen, calls),
  answers: ({ opened, answers }) => {
    const made = computed(opened, answers);
    return { outputs: made.map(({ shape, values }) => ({ shape, values: Array.from(values) })), top: topOf(opened, made, answers) };
  },
  random: ({ count }) => Array.from(randomBytes(count)),
  ask: async ({ server, helper, inputs, options }) => {
    const client = new Client(server, helper, { ...options, prefix: hidden(options?.hidden) }), found = [];
    for (const input of inputs) {
      const answer = await client.ask(input);
      found.push({ values: Array.from(answer.outputs[0].values), top: answer.top, warnings: answer.warnings });
    }
    return found;
  },
};

/** A public part of a linear layer and ReLU, in place of what runs ONNX files. */
function hidden(layer) {
  const unit = (x, row) => Math.max(0, layer.weight[row].reduce((y, w, i) => y + w * x[i], layer.bias[row]));
  return layer && ((file, [x]) => [layer.bias.map((_, row) => unit(x, row))]);
}

let text = "";
for await (const part of process.stdin) text += part;
const { task, ...rest } = JSON.parse(text);
try {
  console.log(JSON.stringify({ result: await TASKS[task](rest) }));
} catch (error) {
  console.log(JSON.stringify({ error: String(error.message), status: error.status ?? null }));
}
