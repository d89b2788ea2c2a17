export * from "./jobpush-536BCFAA.js";
