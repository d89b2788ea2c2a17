/** Return a function that chooses the form of a text for a number: `{ one: "…", other: "…" }`. */
export function pluralOf(lang) {
  const rules = new Intl.PluralRules(lang);
  return (number, forms) => forms[rules.select(number)] ?? forms.other;
}
