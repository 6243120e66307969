// static_shared.cpp - how much shared memory a kernel has by declaration, which a launch adds to
// what it asks for.
//
// A __shared__ variable is a static of its function here, so the symbol table has its size:
// _ZZ<function>E<name>. Those of the kernel are its own. Of functions that were inlined, which have
// no symbol of their own, nobody knows into which kernel: they count for each kernel of their file,
// at most too much.
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <string>

#include "emu_impl.h"

namespace cuda_emu {

namespace {

struct image {
  std::map<uintptr_t, std::pair<std::string, int>> functions;  // offset: name, file
  std::map<std::string, std::map<int, size_t>> own;            // static behind its _ZZ, file: bytes
  std::map<int, size_t> inlined;  // file: bytes of functions that have no symbol
};

void read_symbols(image *m, const char *base, size_t size) {
  const auto *head = (const Elf64_Ehdr *)base;
  if (size < sizeof *head || memcmp(head->e_ident, ELFMAG, SELFMAG)) return;
  const auto *sections = (const Elf64_Shdr *)(base + head->e_shoff);
  for (int i = 0; i < head->e_shnum; i++) {
    if (sections[i].sh_type != SHT_SYMTAB) continue;
    const auto *symbol = (const Elf64_Sym *)(base + sections[i].sh_offset);
    const char *names = base + sections[sections[i].sh_link].sh_offset;
    int file = 0;
    for (size_t n = sections[i].sh_size / sizeof *symbol; n > 0; n--, symbol++) {
      const char *name = names + symbol->st_name;
      const int type = ELF64_ST_TYPE(symbol->st_info);
      if (type == STT_FILE) file++;
      if (type == STT_FUNC) m->functions[symbol->st_value] = {name, file};
      const bool zeros = symbol->st_shndx < head->e_shnum && symbol->st_shndx > 0 &&
                         sections[symbol->st_shndx].sh_type == SHT_NOBITS;
      if (type == STT_OBJECT && zeros && !strncmp(name, "_ZZ", 3))
        m->own[name + 3][file] += symbol->st_size;
    }
  }
}

const image &image_of(const Dl_info &where) {
  static std::map<const void *, image> images;
  const auto found = images.find(where.dli_fbase);
  if (found != images.end()) return found->second;
  image &m = images[where.dli_fbase];
  const int fd = open(where.dli_fname, O_RDONLY | O_CLOEXEC);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) != 0) fail("the symbols of %s cannot be read", where.dli_fname);
  void *base = mmap(nullptr, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (base == MAP_FAILED) fail("the symbols of %s cannot be read", where.dli_fname);
  read_symbols(&m, (const char *)base, (size_t)st.st_size);
  munmap(base, (size_t)st.st_size);
  // Statics of functions that have a symbol are theirs alone.
  for (const auto &variable : m.own)
    for (const auto &of_file : variable.second) {
      bool has_function = false;
      for (const auto &f : m.functions)
        has_function = has_function || (f.second.second == of_file.first &&
                                        !variable.first.compare(0, f.second.first.size() - 1,
                                                                f.second.first.substr(2) + "E"));
      if (!has_function) m.inlined[of_file.first] += of_file.second;
    }
  return m;
}

}  // namespace

size_t static_shared(const void *kernel) {
  static std::map<const void *, size_t> known;
  const auto seen = known.find(kernel);
  if (seen != known.end()) return seen->second;
  Dl_info where;
  if (!dladdr(kernel, &where)) return 0;
  const image &m = image_of(where);
  const auto f =
      m.functions.find((uintptr_t)((const char *)kernel - (const char *)where.dli_fbase));
  if (f == m.functions.end()) fail("the symbol of a kernel is not in %s", where.dli_fname);
  const std::string prefix = f->second.first.substr(2) + "E";
  const int file = f->second.second;
  const auto inlined = m.inlined.find(file);
  size_t bytes = inlined == m.inlined.end() ? 0 : inlined->second;
  for (const auto &variable : m.own) {
    const auto here = variable.second.find(file);
    if (here != variable.second.end() && !variable.first.compare(0, prefix.size(), prefix))
      bytes += here->second;
  }
  return known[kernel] = bytes;
}

}  // namespace cuda_emu
