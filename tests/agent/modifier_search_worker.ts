/** Takes the place of the program's module in the tests of the search. */
import { MODIFIER_SEARCH_ROLE, modifierSearchWorker } from "../../agent/modifier_search.ts";

if ("WorkerGlobalScope" in globalThis && self.name === MODIFIER_SEARCH_ROLE) modifierSearchWorker();
