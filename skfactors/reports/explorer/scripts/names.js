// Names that the reader gives to factors. They are in the page itself once it is saved, and in a file once exported.

const NAMES_FORMAT = "skfactors factor names";
let names = {};
let namesKey;

/** Take the names of the page, and those given since in this browser. */
function loadNames() {
  const inPage = byId("names").textContent;
  names = checkedNames(JSON.parse(inPage));
  // A page saved with other names is another page: what was given in the old one does not hide them.
  namesKey = `${NAMES_FORMAT} ${factors.identity} ${inPage}`;
  try {
    names = checkedNames(JSON.parse(localStorage.getItem(namesKey) ?? inPage));
  } catch {
    say("Names cannot be kept in this browser; save the page or export them.");
  }
}

/** Return names by factor, without those that are empty; anything else is an error. */
function checkedNames(content) {
  const checked = {};
  for (const [factor, name] of Object.entries(content)) {
    if (knownFactor(factor) === null) throw new Error(`there is no factor ${factor}`);
    if (typeof name !== "string") throw new Error(`the name of factor ${factor} is no text`);
    if (name.trim() !== "") checked[factor] = name.trim().slice(0, 200);
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
  const inside = JSON.stringify(names).replaceAll("<", "\\u003c");
  const page = pageAsOpened.replace(/(<script[^>]*id="names"[^>]*>)[^<]*/, (_, opening) => opening + inside);
  download(`<!doctype html>\n${page}\n`, "factors.html", "text/html");
}

function exportNames() {
  download(JSON.stringify({ format: NAMES_FORMAT, names }, null, 2), "factor-names.json", "application/json");
}

/** Add the names of an exported file; of a factor that has one already, the file's counts. */
async function importNames(file) {
  try {
    const content = JSON.parse(await file.text());
    if (content?.format !== NAMES_FORMAT) throw new Error("it holds no factor names");
    const imported = checkedNames(content.names);
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
