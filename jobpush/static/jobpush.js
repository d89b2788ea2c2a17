export * from "./jobpush-9ADB52B7.js";
