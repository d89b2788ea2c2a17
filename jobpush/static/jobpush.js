export * from "./jobpush-5A2E9ADC.js";
