// libcuda.so.1 for machines that have none: a driver without a device. cuDNN insists on finding
// the driver's entry points before it compiles for a described card, but needs nothing of them.
// Built with the soname libcuda.so.1 beside the checking program; never install it, never link a
// program that should run on a GPU with it.
enum { SUCCESS = 0, NO_DEVICE = 100 };

int cuInit(unsigned flags) {
  (void)flags;
  return NO_DEVICE;
}
int cuDeviceGetCount(int *n) {
  *n = 0;
  return NO_DEVICE;
}
int cuDriverGetVersion(int *version) {
  *version = 13000;
  return SUCCESS;
}
int cuCtxGetCurrent(void **context) {
  *context = 0;
  return SUCCESS;
}
int cuGetErrorName(int e, const char **s) {
  (void)e;
  *s = "CUDA_ERROR_NO_DEVICE";
  return SUCCESS;
}
int cuGetErrorString(int e, const char **s) {
  (void)e;
  *s = "no device";
  return SUCCESS;
}

#define REFUSE(name) \
  int name(void) { return NO_DEVICE; }
REFUSE(cuCtxGetDevice)
REFUSE(cuCtxGetLimit) REFUSE(cuCtxPopCurrent) REFUSE(cuCtxPushCurrent) REFUSE(cuDeviceGet) REFUSE(
    cuDeviceGetAttribute) REFUSE(cuDevicePrimaryCtxRelease) REFUSE(cuDevicePrimaryCtxReset)
    REFUSE(cuDevicePrimaryCtxRetain) REFUSE(cuFuncGetAttribute) REFUSE(cuFuncSetAttribute)
        REFUSE(cuKernelGetAttribute) REFUSE(cuKernelSetAttribute) REFUSE(cuLaunchCooperativeKernel)
            REFUSE(cuLaunchKernel) REFUSE(cuLaunchKernelEx) REFUSE(cuLibraryGetKernel)
                REFUSE(cuLibraryLoadData) REFUSE(cuLibraryLoadFromFile) REFUSE(cuLibraryUnload)
                    REFUSE(cuLinkAddData) REFUSE(cuLinkAddData_v2) REFUSE(cuLinkAddFile_v2)
                        REFUSE(cuLinkComplete) REFUSE(cuLinkCreate) REFUSE(cuLinkCreate_v2)
                            REFUSE(cuLinkDestroy) REFUSE(cuMemcpyDtoH_v2)
                                REFUSE(cuModuleGetFunction) REFUSE(cuModuleGetGlobal_v2)
                                    REFUSE(cuModuleLoadData) REFUSE(cuModuleLoadDataEx)
                                        REFUSE(cuModuleLoadFatBinary) REFUSE(cuModuleUnload)
                                            REFUSE(cuOccupancyMaxActiveBlocksPerMultiprocessor)
                                                REFUSE(cuOccupancyMaxPotentialClusterSize)
                                                    REFUSE(cuStreamGetCtx)
                                                        REFUSE(cuStreamSynchronize)
                                                            REFUSE(cuTensorMapEncodeTiled)
