// The help page needs only the number of jobs.
import { ask, countQueue, guarded } from "./api.js";

guarded(async () => countQueue((await ask("jobs")).jobs))();
