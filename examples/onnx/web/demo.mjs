// Runs decoder.onnx on codes.json, both in the folder `graphs` beside this file. No other server is asked.
import * as ort from "./onnxruntime-web/ort.wasm.min.mjs";

ort.env.wasm.wasmPaths = new URL("onnxruntime-web/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need headers of the server

const read = async (name) => {
  const reply = await fetch(new URL(`graphs/${name}`, import.meta.url));
  if (!reply.ok) throw new Error(`graphs/${name} is missing: export the model's decoder to that folder`);
  return reply;
};

const decode = async () => {
  const facts = (await (await read("decoder.json")).json()).application;
  const codes = await (await read("codes.json")).json(); // codebooks of tokens
  const session = await ort.InferenceSession.create(await (await read("decoder.onnx")).arrayBuffer());
  const input = BigInt64Array.from(codes.flat(), BigInt);
  const found = await session.run({ codes: new ort.Tensor("int64", input, [1, codes.length, codes[0].length]) });
  return { samples: found.audio.data, rate: facts.sample_rate };
};

const draw = (samples) => {
  const canvas = document.getElementById("wave");
  const pen = canvas.getContext("2d");
  const wide = samples.length / canvas.width;
  for (let x = 0; x < canvas.width; x += 1) {
    const part = samples.subarray(Math.floor(x * wide), Math.floor((x + 1) * wide) + 1);
    const high = Math.max(...part), low = Math.min(...part);
    pen.fillRect(x, (64 * (1 - high)), 1, Math.max(1, 64 * (high - low)));
  }
};

const play = ({ samples, rate }) => {
  const context = new AudioContext();
  const buffer = context.createBuffer(1, samples.length, rate);
  buffer.copyToChannel(samples, 0);
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(context.destination);
  source.start();
};

const state = document.getElementById("state");
export const made = decode();
try {
  const sound = await made;
  draw(sound.samples);
  state.textContent = `${(sound.samples.length / sound.rate).toFixed(2)} s of sound`;
  const button = document.getElementById("play");
  button.disabled = false;
  button.onclick = () => play(sound);
} catch (error) {
  state.textContent = error.message;
}
