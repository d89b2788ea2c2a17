export * from "./jobpush-42CEA160.js";
