export { default } from "./palette.css";
