/** The packet loop's thread as a program of its own: the executable keeps it apart, since a Worker loads all it is given. */

import { tunWorkerMain } from "./tun_worker.ts";

tunWorkerMain();
