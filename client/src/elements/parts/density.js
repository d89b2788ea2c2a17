export { default } from "./density.css";
