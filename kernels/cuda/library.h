// library.h - finding the driver and NVIDIA's libraries at run time.
//
// The module itself needs none of them to be loaded: it links the CUDA runtime statically and opens
// the rest when first used. So one binary runs on a machine whose libraries lie in the toolkit, in
// the system's path or in pip's folders, a missing one is named in a sentence, and asking for a GPU
// where there is none costs a millisecond (loading cuBLASLt alone takes sixty).
#pragma once

extern "C" {
#include "base.h"
}

// Is there a driver, and a GPU of that number? E_DEVICE says which of them is missing.
cft_status cuda_driver_check(int index);

// Open a library by its file name (libcudnn.so.9). E_DEVICE names it and the places looked at:
//   the folders of $CFT_CUDA_LIBRARIES; where this module lies; the loader's own path; the toolkit
//   (as built with, $CUDA_HOME, /usr/local/cuda*); nvidia/*/lib in the site-packages of pip
cft_status cuda_library(void **library, const char *file);

// A function of it; E_DEVICE where it has none of that name.
cft_status cuda_function(void *function, void *library, const char *name);
