/**
 * The tokenizer of a BERT: the ids of Hugging Face's `tokenizers`, from the same tokenizer.json.
 *
 * No dependency; runs in browsers and in Node. Takes what checkpoints of the BERT kind have: a
 * BertNormalizer, a BertPreTokenizer, a WordPiece model, added tokens, and the special tokens of a
 * TemplateProcessing or BertProcessing. Anything else is an error, never another result.
 */

import { BLOCKING, MARK, PUNCTUATION, REMOVED } from "./unicode.js";

const HAN = // as `tokenizers` has it: without U+2B820 to U+2B91F
  /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;
const WORDS = new RegExp(`[${PUNCTUATION}]|[^${PUNCTUATION}\\p{White_Space}]+`, "gu");
const MARKS = new RegExp(`[${MARK}]`, "gu");
const CONTROLS = new RegExp(`[${REMOVED}]`, "gu");
const BLOCKERS = new RegExp(`([${BLOCKING}])`, "u");
const WORD_AT_START = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;
const WORD_AT_END = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;

export class Tokenizer {
  #vocabulary;
  #model;
  #normalizer;
  #before;
  #after;
  #raw;
  #normalized;

  /**
   * @param {object} settings a tokenizer.json, parsed.
   * @throws {Error} if it asks for anything that is not of the BERT kind.
   */
  constructor(settings) {
    need(settings, "model", ["WordPiece"]);
    need(settings, "normalizer", ["BertNormalizer", undefined]);
    need(settings, "pre_tokenizer", ["BertPreTokenizer"]);
    need(settings, "post_processor", ["TemplateProcessing", "BertProcessing", undefined]);
    this.#model = settings.model;
    this.#normalizer = settings.normalizer ?? null;
    this.#vocabulary = new Map(Object.entries(settings.model.vocab));
    if (!this.#vocabulary.has(settings.model.unk_token)) {
      throw new Error(
        "tokenizer.json: the unknown token must be in the vocabulary. " +
          `Received: ${settings.model.unk_token}. Correct unk_token.`,
      );
    }
    [this.#before, this.#after] = template(settings.post_processor);
    const added = settings.added_tokens ?? [];
    this.#raw = matcher(added.filter((token) => !token.normalized));
    this.#normalized = matcher(
      added
        .filter((token) => token.normalized)
        .map((token) => ({ ...token, content: this.normalize(token.content) })),
    );
  }

  /**
   * The ids of a text, with special tokens.
   *
   * @param {string} text
   * @param {number} [maxLength] tokens to cut to, special ones included; cuts nothing if left out.
   * @returns {number[]}
   * @throws {RangeError} if `maxLength` leaves no room for the special tokens.
   */
  encode(text, maxLength = Infinity) {
    const special = this.#before.length + this.#after.length;
    if (!(maxLength >= special)) {
      throw new RangeError(
        `maxLength must leave room for ${special} special tokens. ` +
          `Received: ${maxLength}. Pass ${special} or more.`,
      );
    }
    const ids = [];
    // What is no character of Unicode becomes U+FFFD, as it does in any file.
    for (const part of this.#raw(text.replace(/\p{Surrogate}/gu, "\ufffd"))) {
      if (part.id !== undefined) ids.push(part.id);
      else this.#encodePlain(part.text, ids);
    }
    return [...this.#before, ...ids.slice(0, maxLength - special), ...this.#after];
  }

  #encodePlain(text, ids) {
    for (const part of this.#normalized(this.normalize(text))) {
      if (part.id !== undefined) ids.push(part.id);
      else for (const [word] of part.text.matchAll(WORDS)) this.#encodeWord(word, ids);
    }
  }

  /** The text that words are cut from: what the file's BertNormalizer makes of `text`. */
  normalize(text) {
    const options = this.#normalizer;
    if (options === null) return text;
    if (options.clean_text) text = text.replace(CONTROLS, "").replace(/\p{White_Space}/gu, " ");
    if (options.handle_chinese_chars) text = text.replace(HAN, " $& ");
    if (options.strip_accents ?? options.lowercase) text = decompose(text).replace(MARKS, "");
    // A character at a time: none depends on its neighbours, as the final sigma otherwise would.
    if (options.lowercase) text = Array.from(text, (c) => c.toLowerCase()).join("");
    return text;
  }

  /** Appends the ids of the longest pieces, from left to right; unknown where that fails. */
  #encodeWord(word, ids) {
    const { unk_token, continuing_subword_prefix, max_input_chars_per_word } = this.#model;
    const unknown = this.#vocabulary.get(unk_token);
    const ends = [];
    for (let at = 0; at < word.length; ) ends.push((at += word.codePointAt(at) > 0xffff ? 2 : 1));
    if (ends.length > max_input_chars_per_word) return ids.push(unknown);
    const pieces = [];
    for (let start = 0; start < word.length; ) {
      let id;
      let last = ends.length - 1;
      for (; last >= 0 && ends[last] > start; last--) {
        const piece = word.slice(start, ends[last]);
        id = this.#vocabulary.get(start > 0 ? continuing_subword_prefix + piece : piece);
        if (id !== undefined) break;
      }
      if (id === undefined) return ids.push(unknown);
      pieces.push(id);
      start = ends[last];
    }
    return ids.push(...pieces);
  }
}

/** Canonical decomposition, as far as `tokenizers` knows Unicode. */
function decompose(text) {
  return text
    .split(BLOCKERS)
    .map((part, index) => (index % 2 ? part : part.normalize("NFD")))
    .join("");
}

function need(settings, part, types) {
  const type = settings[part]?.type;
  if (!types.includes(type)) {
    const known = types.map((name) => name ?? "none").join(" or ");
    throw new Error(
      `tokenizer.json: ${part} must be ${known}. Received: ${type ?? "none"}. ` +
        "Use a runtime of Hugging Face's tokenizers for this file.",
    );
  }
}

/** The ids before and after a text. */
function template(processor) {
  if (!processor) return [[], []];
  if (processor.type === "BertProcessing") return [[processor.cls[1]], [processor.sep[1]]];
  const sides = [[], []];
  let side = 0;
  for (const piece of processor.single) {
    if (piece.Sequence) side = 1;
    else sides[side].push(...processor.special_tokens[piece.SpecialToken.id].ids);
  }
  return sides;
}

/** A function that cuts a text into added tokens, `{ id }`, and what is between, `{ text }`. */
function matcher(tokens) {
  tokens = tokens.filter((token) => token.content !== "");
  if (tokens.length === 0) return (text) => [{ text }];
  const byContent = new Map(tokens.map((token) => [token.content, token]));
  const longestFirst = [...byContent.keys()].sort((a, b) => b.length - a.length);
  const escaped = longestFirst.map((content) => content.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
  const pattern = new RegExp(escaped.join("|"), "gu");
  return (text) => {
    const parts = [];
    let done = 0;
    for (const match of text.matchAll(pattern)) {
      const token = byContent.get(match[0]);
      const left = text.slice(0, match.index);
      const right = text.slice(match.index + match[0].length);
      if (token.single_word && (WORD_AT_END.test(left) || WORD_AT_START.test(right))) continue;
      let start = left.length;
      let end = text.length - right.length;
      if (token.lstrip) start = Math.max(done, left.replace(/\p{White_Space}+$/u, "").length);
      if (token.rstrip) end = text.length - right.replace(/^\p{White_Space}+/u, "").length;
      if (done < start) parts.push({ text: text.slice(done, start) });
      parts.push({ id: token.id });
      done = end;
    }
    if (done < text.length) parts.push({ text: text.slice(done) });
    return parts;
  };
}
