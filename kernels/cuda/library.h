// library.h - finding the driver and NVIDIA's libraries at run time.
//
// The module itself needs none of them to be loaded: it links the CUDA runtime statically and opens
// the rest when first used. So one binary runs on a machine whose libraries lie in the toolkit, in
// the system's path or in pip's folders, a missing one is named in a sentence, and asking for a GPU
// where there is none costs a millisecond (loading cuBLASLt alone takes sixty).
#pragma once

#include <cuda_runtime.h>

#include <initializer_list>
#include <string>

extern "C" {
#include "base.h"
}

// Majors of CUDA's own libraries: what is called of them is the same in both. One that is as the
// module was compiled comes first.
#if CUDART_VERSION < 13000
static constexpr std::initializer_list<int> CUDA_MAJORS = {12, 13};
#else
static constexpr std::initializer_list<int> CUDA_MAJORS = {13, 12};
#endif

// A toolkit's programs run with drivers of its own major and newer.
static constexpr int CUDA_OLDEST_DRIVER = CUDART_VERSION < 13000 ? 525 : 580;

// 2.14: the first NCCL whose communicators need not block.
static constexpr int NCCL_OLDEST = 21400;

// Is there a driver, and a GPU of that number? E_DEVICE says which of them is missing.
cft_status cuda_driver_check(int index);

// What driver and GPUs are here, a row each: "driver\tok\t580.65.06, for CUDA 13.0\n". The second word
// is ok, missing or old.
void cuda_driver_report(std::string *rows);

// Open a library by its name and its majors, the one that is liked best first: "libcublasLt", {13, 12}.
// It is never closed. E_DEVICE names it and the places looked at:
//   the folders of $CFT_CUDA_LIBRARIES; where this module lies; the loader's own path; the toolkit
//   (as built with, $CUDA_HOME, $CUDA_PATH, /usr/local/cuda*); nvidia/*/lib in the site-packages of
//   $VIRTUAL_ENV, $CONDA_PREFIX, each environment whose bin is on PATH, the user and the system; at
//   last those that python3 names
cft_status cuda_library(void **library, const char *name, std::initializer_list<int> majors);

// The file that a library was opened from.
std::string cuda_library_path(void *library);

// A function of it; E_DEVICE where it has none of that name.
cft_status cuda_function(void *function, void *library, const char *name);
