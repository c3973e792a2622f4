// Search in names, tokens and contexts. What matches as a whole word comes before what matches within one.

// From the best to the worst way to be found; the second half is the first, within words.
const WAYS = ["number", "name", "top token", "token", "context"];
const WITHIN = WAYS.length;
const NOT_FOUND = 2 * WITHIN;
const TOKEN = 1;
const WHOLE_TOKEN = 2;
const WHOLE_CONTEXT = 4;
const CONTEXT = 8;
const PLACES = 8;
const MOST_COUNTED = 4095;
// What NFC leaves as it is, and how many parts of texts are folded in a few hundredths of a second.
const ONLY_ASCII = /^[\0-\x7f]*$/;
const FOLDED_AT_ONCE = 3 * 5000;
let folded = null;
let found = nothingAsked();

function nothingAsked() {
  return { asked: false, counts: null, ways: null, places: null, texts: null };
}

/** Return text in which case and ways to write the same character make no difference. */
function fold(text) {
  return (ONLY_ASCII.test(text) ? text : text.normalize("NFC")).toLowerCase();
}

/** Fold all texts once, when the contexts have arrived; between some of many, the page draws and answers. */
async function foldTexts(contexts) {
  const parts = [];
  const whole = [];
  for (let place = 0; place < contexts.texts.length; place += 3) {
    if (place > 0 && place % FOLDED_AT_ONCE === 0) await new Promise((resolve) => setTimeout(resolve));
    const [left, token, right] = contexts.texts.slice(place, place + 3).map(fold);
    parts.push(left, token, right);
    whole.push(left + token + right);
  }
  const factorOfEntry = new Uint32Array(contexts.text.length);
  contexts.counts.forEach((count, group) => {
    factorOfEntry.fill(factorOfGroup(group), contexts.starts[group], contexts.starts[group] + count);
  });
  folded = { parts, whole, factorOfEntry, textOfEntry: contexts.text };
}

/** Find what a query is in: the best way in which each factor is found, in how many contexts, and which texts. */
function find(query, scope) {
  const wanted = fold(query.trim());
  if (wanted === "") return nothingAsked();
  const result = {
    asked: true,
    counts: new Uint32Array(factors.n_factors),
    ways: new Uint8Array(factors.n_factors).fill(NOT_FOUND),
    places: new Uint8Array(factors.n_factors),
    texts: null,
  };
  const isWhole = wholeWordTest(wanted);
  if (scope === "all") matchNumber(wanted, result);
  if (scope === "all" || scope === "names") matchNames(wanted, isWhole, result);
  if (scope === "all" || scope === "tokens") matchTopTokens(wanted, isWhole, result);
  if (scope !== "names" && folded !== null) matchContexts(wanted, isWhole, scope === "tokens", result);
  return result;
}

/** Return the test that a text has the wanted one with no letter or digit joined to either end. */
function wholeWordTest(wanted) {
  const pattern = wanted.replace(/[\\^$.*+?()[\]{}|\-/]/g, "\\$&");
  const joined = "[\\p{L}\\p{N}\\p{M}_]";
  const before = new RegExp(`^${joined}`, "u").test(wanted) ? `(?<!${joined})` : "";
  const after = new RegExp(`${joined}$`, "u").test(wanted) ? `(?!${joined})` : "";
  const whole = new RegExp(before + pattern.replaceAll("\\-", "-").replaceAll("\\/", "/") + after, "u");
  return (text) => whole.test(text);
}

function note(result, factor, way, isWhole, place = 0) {
  const number = WAYS.indexOf(way) + (isWhole ? 0 : WITHIN);
  if (number < result.ways[factor]) {
    result.ways[factor] = number;
    result.places[factor] = Math.min(place, PLACES - 1);
  }
}

function matchNumber(wanted, result) {
  const number = knownFactor(wanted.replace(/^#/, ""));
  if (number !== null) note(result, number, "number", true);
}

function matchNames(wanted, isWhole, result) {
  for (const [factor, name] of Object.entries(names)) {
    const text = fold(name);
    if (text.includes(wanted)) note(result, factor, "name", isWhole(text));
  }
}

function matchTopTokens(wanted, isWhole, result) {
  factors.top_tokens.forEach((tokens, factor) => {
    if (!fold(tokens).includes(wanted)) return;
    fold(tokens)
      .split(", ")
      .forEach((token, place) => {
        if (token.includes(wanted)) note(result, factor, "top token", isWhole(token), place);
      });
  });
}

function matchContexts(wanted, isWhole, onlyTokens, result) {
  const flags = Uint8Array.from(folded.whole, (text, number) => (text.includes(wanted) ? flagsOf(text, number, wanted, isWhole) : 0));
  result.texts = onlyTokens ? flags.map((flag) => flag & TOKEN) : flags;
  folded.textOfEntry.forEach((text, entry) => {
    if (result.texts[text] === 0) return;
    const factor = folded.factorOfEntry[entry];
    result.counts[factor] += 1;
    if (flags[text] & TOKEN) note(result, factor, "token", flags[text] & WHOLE_TOKEN);
    else note(result, factor, "context", flags[text] & WHOLE_CONTEXT);
  });
}

/** Tell how a text matches that does; a token is a whole word where the word around it is the wanted one. */
function flagsOf(text, number, wanted, isWhole) {
  const [left, token, right] = folded.parts.slice(3 * number, 3 * number + 3);
  const word = `${left.match(/[\p{L}\p{N}\p{M}_]*$/u)[0]}${token}${right.match(/^[\p{L}\p{N}\p{M}_]*/u)[0]}`.trim();
  const isToken = token.includes(wanted) || word === wanted;
  return (
    CONTEXT | (isWhole(text) ? WHOLE_CONTEXT : 0) | (isToken ? TOKEN : 0) | (isToken && isWhole(word) ? WHOLE_TOKEN : 0)
  );
}

/** Return a key that is smaller the better a factor is found. */
function searchKey(factor) {
  const place = found.ways[factor] * PLACES + found.places[factor];
  return place * (MOST_COUNTED + 1) + MOST_COUNTED - Math.min(found.counts[factor], MOST_COUNTED);
}

/** Return how a factor was found, for its row. */
function foundText(factor) {
  if (!found.asked) return "";
  const way = WAYS[found.ways[factor] % WITHIN];
  return `${way}${found.counts[factor] > 1 ? ` × ${found.counts[factor]}` : ""} · `;
}
