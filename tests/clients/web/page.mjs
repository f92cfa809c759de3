// Uses the page as a visitor would, with the keyboard alone; then its modules, for their numbers.
import { join } from "node:path";
import { drive } from "./browser.mjs";

const LOOKS = [
  ["desktop-light", { width: 900, height: 900 }, "light"],
  ["desktop-dark", { width: 900, height: 900 }, "dark"],
  ["phone-light", { width: 360, height: 740 }, "light"],
  ["phone-dark", { width: 320, height: 640 }, "dark"],
];

/** Waits for the page to be ready; returns the milliseconds that it took. */
async function open(page, url) {
  const start = Date.now();
  await page.goto(url);
  await page.waitForFunction(
    () => document.querySelector("#facts").textContent || !document.querySelector("#error").hidden,
    null,
    { timeout: 120000 },
  );
  return Date.now() - start;
}

/** What the page shows after `keys`, which change the query. */
async function results(page, keys) {
  const before = await page.textContent("#news");
  await keys();
  await page.waitForFunction((old) => document.querySelector("#news").textContent !== old, before);
  return page.evaluate(() => ({
    query: document.querySelector("#query").value,
    texts: [...document.querySelectorAll("#results li p")].map((p) => p.textContent),
    notes: [...document.querySelectorAll("#results .note")].map((p) => p.textContent),
    state: document.querySelector("#state").textContent,
    news: document.querySelector("#news").textContent,
  }));
}

const focused = (page) =>
  page.evaluate(() => document.activeElement.id || document.activeElement.textContent);
const overflow = (page) =>
  page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

async function look(page, folder) {
  const overflows = {};
  for (const [name, viewport, colorScheme] of LOOKS) {
    await page.setViewportSize(viewport);
    await page.emulateMedia({ colorScheme });
    overflows[name] = await overflow(page);
    const fullPage = name.startsWith("desktop");
    await page.screenshot({ path: join(folder, `${name}.png`), fullPage });
  }
  return overflows;
}

/** The page's embeddings of texts, and the median milliseconds of one at each length. */
function embed(page, texts) {
  return page.evaluate(async (texts) => {
    const embedder = await (await import("./app.js")).ready;
    // All at once, as impatient typing asks for them.
    const embeddings = await Promise.all(texts.map((text) => embedder.embed(text)));
    const milliseconds = {};
    for (const { length } of embedder.manifest.model.signatures) {
      const times = [];
      for (let run = 0; run < 40; run++) {
        const from = performance.now();
        await embedder.embed("word ".repeat(length - 2));
        times.push(performance.now() - from);
      }
      milliseconds[length] = times.sort((a, b) => a - b)[20];
    }
    return { embeddings: embeddings.map((embedding) => Array.from(embedding)), milliseconds };
  }, texts);
}

await drive(async (context, { url, query, texts, screenshots, offline }) => {
  const page = await context.newPage();
  await context.setOffline(Boolean(offline));
  const ready = await open(page, url);
  const seen = {
    ready,
    facts: await page.textContent("#facts"),
    error: await page.textContent("#error"),
    isolated: await page.evaluate(() => crossOriginIsolated),
    focus: [await focused(page)],
    typed: await results(page, () => page.keyboard.type(query)),
  };
  if (offline) return seen;
  seen.overflows = await look(page, screenshots);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  seen.focus.push(await focused(page));
  seen.example = await results(page, () => page.keyboard.press("Enter"));
  await page.keyboard.press("/");
  seen.focus.push(await focused(page));
  seen.cleared = await results(page, async () => {
    await page.keyboard.press("Control+A");
    await page.keyboard.press("Delete");
  });
  seen.markup = await results(page, () => page.keyboard.type("<img src=x onerror=alert(1)>"));
  return { ...seen, ...(await embed(page, texts)) };
});
