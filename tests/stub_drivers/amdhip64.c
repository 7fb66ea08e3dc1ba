// Stands for libamdhip64.so where there is no GPU: succeeds and counts launches. Compiled against the HIP headers that
// Triton ships.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <hip/hip_runtime_api.h>
#include <string.h>

static int launches;

int stub_launches(void) { return launches; }

static hipError_t launched(void) {
  ++launches;
  return hipSuccess;
}

hipError_t hipDriverGetVersion(int* version) { return *version = 7 * 10000000, hipSuccess; }
hipError_t hipGetProcAddress(const char* symbol, void** function, int version, uint64_t flags,
                             hipDriverProcAddressQueryResult* result) {
  Dl_info own;
  dladdr((void*)launched, &own);
  // since HIP 6 this function has another name in the library than in its interface
  int is_renamed = strcmp(symbol, "hipGetDeviceProperties") == 0;
  *function = dlsym(dlopen(own.dli_fname, RTLD_LAZY), is_renamed ? "hipGetDevicePropertiesR0600" : symbol);
  return *function ? hipSuccess : hipErrorNotFound;
}
const char* hipGetErrorString(hipError_t error) { return "refused by the stub driver"; }
hipError_t hipGetLastError(void) { return hipSuccess; }
hipError_t hipGetDeviceProperties(hipDeviceProp_t* properties, int device) {
  memset(properties, 0, sizeof *properties);
  properties->sharedMemPerBlock = 64 * 1024;
  properties->regsPerBlock = 65536;
  properties->multiProcessorCount = 304;
  properties->warpSize = 64;
  properties->maxThreadsPerMultiProcessor = 2048;
  strcpy(properties->gcnArchName, "gfx942");
  return hipSuccess;
}
hipError_t hipModuleLoadDataEx(hipModule_t* module, const void* image, unsigned count, hipJitOption* options,
                               void** values) {
  return *module = (hipModule_t)1, hipSuccess;
}
hipError_t hipModuleUnload(hipModule_t module) { return hipSuccess; }
hipError_t hipModuleGetFunction(hipFunction_t* function, hipModule_t module, const char* name) {
  return *function = (hipFunction_t)1, hipSuccess;
}
hipError_t hipFuncGetAttribute(int* value, hipFunction_attribute attribute, hipFunction_t function) {
  *value = attribute == HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
  return hipSuccess;
}
hipError_t hipPointerGetAttribute(void* value, hipPointer_attribute attribute, hipDeviceptr_t pointer) {
  return memcpy(value, &pointer, sizeof pointer), hipSuccess;
}
hipError_t hipModuleLaunchKernel(hipFunction_t function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by,
                                 unsigned bz, unsigned shared, hipStream_t stream, void** params, void** extra) {
  return launched();
}
hipError_t hipModuleLaunchCooperativeKernel(hipFunction_t function, unsigned x, unsigned y, unsigned z, unsigned bx,
                                            unsigned by, unsigned bz, unsigned shared, hipStream_t stream,
                                            void** params) {
  return launched();
}
hipError_t hipDrvLaunchKernelEx(const HIP_LAUNCH_CONFIG* config, hipFunction_t function, void** params, void** extra) {
  return launched();
}
