export * from "./jobpush-DDB101A9.js";
