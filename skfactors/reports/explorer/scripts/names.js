// Names that the reader gives to factors. They are in the page itself once it is saved, and in a file once exported.

const NAMES_FORMAT = "skfactors factor names";
const LONGEST_NAME = 200;
const LARGEST_FILE = 2 ** 26;
// Control characters, lone surrogates, and marks that turn the direction of what follows them.
const UNPRINTABLE = /[\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069]/gu;
let names = {};
let namesKey;

/** Take the names of the page, and those given since in this browser. */
function loadNames() {
  const inPage = byId("names").textContent;
  // A page saved with other names is another page: what was given in the old one does not hide them.
  namesKey = `${NAMES_FORMAT} ${factors.identity} ${inPage}`;
  try {
    names = checkedNames(JSON.parse(inPage));
  } catch (error) {
    say(`The names in this page are left out: ${error.message}.`);
  }
  try {
    const kept = localStorage.getItem(namesKey);
    if (kept !== null) names = checkedNames(JSON.parse(kept));
  } catch {
    say("Names cannot be kept in this browser; save the page or export them.");
  }
}

/** Return names by factor, without those that are empty; anything else is an error. */
function checkedNames(content) {
  if (content?.constructor !== Object) throw new Error("it holds no names by factor");
  const checked = {};
  for (const [factor, name] of Object.entries(content)) {
    if (knownFactor(factor) === null || String(Number(factor)) !== factor) throw new Error(`there is no factor ${shortened(factor)}`);
    if (typeof name !== "string") throw new Error(`the name of factor ${factor} is no text`);
    const shown = name.replace(UNPRINTABLE, "�").trim();
    if ([...shown].length > LONGEST_NAME) throw new Error(`the name of factor ${factor} has more than ${LONGEST_NAME} characters`);
    if (shown !== "") checked[factor] = shown;
  }
  return checked;
}

function keepNames() {
  try {
    localStorage.setItem(namesKey, JSON.stringify(names));
  } catch {
    say("Names cannot be kept in this browser; save the page or export them.");
  }
}

function nameFactor(factor, name) {
  if (name.trim() === "") delete names[factor];
  else names[factor] = name.trim();
  keepNames();
  drawList();
}

/** Save the page as it was delivered, with the names of now in it. */
function savePage() {
  pageAsOpened.querySelector("#names").textContent = JSON.stringify(names).replaceAll("<", "\\u003c");
  download(`<!doctype html>\n${pageAsOpened.outerHTML}\n`, "factors.html", "text/html");
}

function exportNames() {
  download(JSON.stringify({ format: NAMES_FORMAT, names }, null, 2), "factor-names.json", "application/json");
}

/** Add the names of an exported file; of a factor that has one already, the file's counts. */
async function importNames(file) {
  try {
    if (file.size > LARGEST_FILE) throw new Error("it is larger than any file of names");
    const text = await file.text();
    const content = JSON.parse(text);
    if (content?.format !== NAMES_FORMAT) throw new Error("it holds no factor names");
    const imported = checkedNames(content.names);
    // Of a key that is there twice, JSON.parse takes the last.
    const keys = text.match(/"\d+"\s*:/g) ?? [];
    if (keys.length !== Object.keys(content.names).length) throw new Error("it names a factor twice");
    Object.assign(names, imported);
    keepNames();
    refreshList();
    await showFactor();
    say(`Imported names: ${Object.keys(imported).length}.`);
  } catch (error) {
    say(`${file.name} cannot be imported: ${error.message}.`);
  }
}

function download(content, name, type) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
