/** The datapath's Worker for tests, as `main.ts` is for the agent. */

import { tunWorkerMain } from "../../datapath/tun_worker.ts";

tunWorkerMain();
