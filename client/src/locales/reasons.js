/** Return a function that translates texts of the gateway by their codes; a value may follow one: "no_worker:queue". */
export const reasonOf = (reasons) => (code) => {
  const [name, value] = (code ?? "").split(/:(.*)/s);
  return Object.hasOwn(reasons, name) ? reasons[name](value) : undefined;
};
