// standins.h - what the emulated module calls in place of NVIDIA's libraries.
#pragma once

struct standin_function {
  const char *name;
  void *address;
};

// Ended by a name of NULL.
extern const standin_function standin_cublaslt[], standin_cudnn[], standin_nccl[],
    standin_nothing[];

#define STANDIN(name) \
  { #name, (void *)&name }
