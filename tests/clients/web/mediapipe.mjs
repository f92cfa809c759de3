// Embeddings of texts by MediaPipe's TextEmbedder, from a page that has nothing else on it.
import { drive } from "./browser.mjs";

await drive(async (context, { url, texts }) => {
  const page = await context.newPage();
  await page.goto(`${url}index.html`);
  return page.evaluate(async (texts) => {
    const { TextEmbedder } = await import("./tasks-text/text_bundle.mjs");
    const embedder = await TextEmbedder.createFromOptions(
      {
        wasmLoaderPath: "tasks-text/wasm/text_wasm_internal.js",
        wasmBinaryPath: "tasks-text/wasm/text_wasm_internal.wasm",
      },
      { baseOptions: { modelAssetPath: "model.tflite", delegate: "CPU" } },
    );
    const embeddings = texts.map((text) => embedder.embed(text).embeddings[0].floatEmbedding);
    embedder.close();
    return { embeddings: embeddings.map((embedding) => Array.from(embedding)) };
  }, texts);
});
