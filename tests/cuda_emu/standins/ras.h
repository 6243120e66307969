// ras.h - the stand-in's answer to whoever asks NCCL about its ranks, at NCCL_RAS_ADDR; as in NCCL all processes
// of a host listen there, and one of them gets the connection.
#pragma once

#include <functional>
#include <string>

// Listen from the first call on, where the variable is set ("127.0.0.1:PORT"; without it nobody listens, since tests
// run side by side). `status` is called by another thread, and may be long in use.
void standin_ras_listen(std::function<std::string()> status);
