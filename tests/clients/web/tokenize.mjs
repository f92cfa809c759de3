// The ids of texts, from the page's tokenizer: node tokenize.mjs TOKENIZER.JS < request.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { Tokenizer } = await import(pathToFileURL(process.argv[2]));
const { settings, texts, maxLength } = JSON.parse(readFileSync(0, "utf8"));
const tokenizer = new Tokenizer(settings);
process.stdout.write(JSON.stringify(texts.map((text) => tokenizer.encode(text, maxLength ?? undefined))));
