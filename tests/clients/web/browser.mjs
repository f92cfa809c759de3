// A headless Chromium for the drivers here. They run as `node DRIVER.mjs REQUEST REPLY`, two JSON files.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Nothing but the page: no look-ups of Chromium's own.
const FLAGS = [
  ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
  ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
];

const HERE = /^(http:\/\/127\.0\.0\.1[:/]|blob:|data:)/;

/** Does `work(context, request, troubles)` in a browser, and writes what it returns. */
export async function drive(work) {
  const [asked, reply] = process.argv.slice(2);
  const request = JSON.parse(readFileSync(asked, "utf8"));
  const { chromium } = createRequire(join(request.packages, "package.json"))("playwright-core");
  const profile = request.profile ?? mkdtempSync(join(tmpdir(), "browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: request.chromium,
    headless: true,
    args: FLAGS,
    viewport: { width: 1100, height: 900 },
  });
  try {
    const troubles = [];
    await context.route((url) => !HERE.test(url.href), (route) => route.abort());
    context.on("page", (page) => watch(page, troubles));
    const result = await work(context, request, troubles);
    writeFileSync(reply, JSON.stringify({ ...result, troubles }));
  } finally {
    await context.close();
    if (!request.profile) rmSync(profile, { recursive: true, force: true });
  }
}

/** Notes all that a user would call an error, and every request to another host, which is not let through. */
function watch(page, troubles) {
  page.on("console", (message) => {
    if (message.type() === "error") troubles.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => troubles.push(`exception: ${error}`));
  page.on("requestfailed", (r) => {
    if (HERE.test(r.url())) troubles.push(`failed: ${r.url()} ${r.failure()?.errorText}`);
  });
  page.on("request", (r) => {
    if (!HERE.test(r.url())) troubles.push(`elsewhere: ${r.url()}`);
  });
  page.on("response", (r) => {
    if (r.status() >= 400) troubles.push(`status ${r.status()}: ${r.url()}`);
  });
}
