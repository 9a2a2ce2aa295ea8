// Where a program of the bundle begins: finds the bundle's own dynamic loader beside the program and starts
// it.
//
// The kernel takes the loader's path from PT_INTERP, which must be absolute: a folder that may be unpacked
// anywhere cannot have one, and a box without this glibc has no other. So PT_INTERP of these programs is
// hidden from the kernel (hide_interpreter.py), which then starts them here. This code does what the kernel
// would have done: it maps
// ../lib/ld-linux-x86-64.so.2, says in the auxiliary vector where it is and where the program's real start
// is, and jumps there. /proc/self/exe, `ps` and whoever spawns a program by its path see the program itself;
// there is no wrapper.
//
// Runs before anything is relocated: no library, no global pointer, no call that a compiler could send
// elsewhere.
#include <elf.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__)
#error "the bundle's entry is written for x86-64"
#endif

extern "C" {
extern void _start() __attribute__((visibility("hidden")));

struct TrunBundleStart {
  uintptr_t loader;  // the loader's first instruction
  uintptr_t* stack;  // what it finds in the stack pointer
};
__attribute__((visibility("hidden"), used)) TrunBundleStart TrunBundleLoad(uintptr_t* stack);
}

asm(R"(
    .text
    .globl trun_bundle_entry
    .hidden trun_bundle_entry
    .type trun_bundle_entry, @function
trun_bundle_entry:
    xorl %ebp, %ebp
    movq %rsp, %rdi
    subq $16, %rsp  # room for two more words under what the kernel put there
    call TrunBundleLoad
    movq %rdx, %rsp
    xorl %edx, %edx
    jmp *%rax
)");

namespace {

constexpr uintptr_t kPage = 4096;
constexpr char kLoader[] = "/../lib/ld-linux-x86-64.so.2";
constexpr char kOrigin[] = "LD_ORIGIN_PATH=";
constexpr uint32_t kHiddenInterpreter = 0x6e757274;  // hide_interpreter.py
constexpr int kMostSegments = 32;

// Room for "LD_ORIGIN_PATH=FOLDER/../lib/ld-linux-x86-64.so.2"; used in parts.
char g_text[sizeof(kOrigin) + PATH_MAX + sizeof(kLoader)];

// The program's headers as the loader must see them: it insists on a PT_INTERP.
Elf64_Phdr g_segments[kMostSegments];

intptr_t Call(long number, uintptr_t a = 0, uintptr_t b = 0, uintptr_t c = 0, uintptr_t d = 0,
              uintptr_t e = 0, uintptr_t f = 0) {
  intptr_t result;
  register uintptr_t r10 asm("r10") = d;
  register uintptr_t r8 asm("r8") = e;
  register uintptr_t r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

uintptr_t Address(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

size_t Length(const char* text) {
  size_t length = 0;
  while (text[length] != '\0') ++length;
  return length;
}

[[noreturn]] void Fail(const char* what, const char* path) {
  constexpr char kProgram[] = "trun bundle: ";
  Call(SYS_write, 2, Address(kProgram), sizeof(kProgram) - 1);
  Call(SYS_write, 2, Address(what), Length(what));
  Call(SYS_write, 2, Address(path), Length(path));
  Call(SYS_write, 2, Address("\n"), 1);
  for (;;) Call(SYS_exit_group, 127);
}

// Maps the loader's segments; returns where its address 0 is, and sets its entry.
uintptr_t MapLoader(const char* path, uintptr_t* entry) {
  const intptr_t file = Call(SYS_open, Address(path), O_RDONLY | O_CLOEXEC);
  if (file < 0) Fail("cannot open its loader ", path);
  alignas(Elf64_Ehdr) char bytes[2048];
  const intptr_t got = Call(SYS_pread64, file, Address(bytes), sizeof(bytes), 0);
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(bytes);
  if (got < static_cast<intptr_t>(sizeof(Elf64_Ehdr)) || header->e_ident[EI_MAG1] != 'E' ||
      header->e_type != ET_DYN || header->e_machine != EM_X86_64 ||
      header->e_phoff + header->e_phnum * sizeof(Elf64_Phdr) > static_cast<size_t>(got)) {
    Fail("this is no loader: ", path);
  }
  const auto* segments = reinterpret_cast<const Elf64_Phdr*>(bytes + header->e_phoff);
  uintptr_t end = 0;
  for (int i = 0; i < header->e_phnum; ++i) {
    const uintptr_t last = segments[i].p_vaddr + segments[i].p_memsz;
    if (segments[i].p_type == PT_LOAD && last > end) end = last;
  }
  end = (end + kPage - 1) & -kPage;
  const intptr_t base = Call(SYS_mmap, 0, end, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base < 0 && base > -4096) Fail("no room for its loader ", path);
  for (int i = 0; i < header->e_phnum; ++i) {
    const Elf64_Phdr& segment = segments[i];
    if (segment.p_type != PT_LOAD) continue;
    const uintptr_t protection = (segment.p_flags & PF_R ? PROT_READ : 0) |
                                 (segment.p_flags & PF_W ? PROT_WRITE : 0) |
                                 (segment.p_flags & PF_X ? PROT_EXEC : 0);
    const uintptr_t begin = base + (segment.p_vaddr & -kPage);
    const uintptr_t skip = segment.p_vaddr & (kPage - 1);
    const uintptr_t file_end = base + segment.p_vaddr + segment.p_filesz;
    const uintptr_t memory_end = base + segment.p_vaddr + segment.p_memsz;
    if (Call(SYS_mmap, begin, skip + segment.p_filesz, protection, MAP_PRIVATE | MAP_FIXED, file,
             segment.p_offset - skip) < 0) {
      Fail("cannot map its loader ", path);
    }
    if (memory_end == file_end) continue;
    const uintptr_t whole = (file_end + kPage - 1) & -kPage;
    for (auto* byte = reinterpret_cast<volatile char*>(file_end); Address(const_cast<char*>(byte)) < whole;
         ++byte)
      *byte = 0;
    if (memory_end > whole && Call(SYS_mmap, whole, memory_end - whole, protection,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) < 0) {
      Fail("cannot map its loader ", path);
    }
  }
  Call(SYS_close, file);
  *entry = base + header->e_entry;
  return base;
}

// Copies the program's headers to g_segments and shows PT_INTERP there again. The loader computes where the
// program lies from where PT_PHDR is.
void ShowInterpreter(const Elf64_Phdr* segments, size_t count) {
  if (segments == nullptr || count > kMostSegments) Fail("cannot read its own program headers", "");
  for (size_t i = 0; i < count; ++i) {
    Elf64_Phdr& copy = g_segments[i];
    copy = segments[i];
    if (copy.p_type == kHiddenInterpreter) copy.p_type = PT_INTERP;
    if (copy.p_type == PT_PHDR) copy.p_vaddr += Address(g_segments) - Address(segments);
  }
}

}  // namespace

TrunBundleStart TrunBundleLoad(uintptr_t* stack) {
  // argc, argv, 0, environment, 0, pairs of the auxiliary vector, 0.
  uintptr_t* environment = stack + stack[0] + 2;
  uintptr_t* environment_end = environment;
  while (*environment_end != 0) ++environment_end;
  uintptr_t* auxiliary = environment_end + 1;
  uintptr_t* auxiliary_end = auxiliary;
  const char* started_as = "";
  const Elf64_Phdr* segments = nullptr;
  size_t segment_count = 0;
  for (; auxiliary_end[0] != AT_NULL; auxiliary_end += 2) {
    if (auxiliary_end[0] == AT_PHDR) segments = reinterpret_cast<const Elf64_Phdr*>(auxiliary_end[1]);
    if (auxiliary_end[0] == AT_PHNUM) segment_count = auxiliary_end[1];
    if (auxiliary_end[0] == AT_EXECFN) started_as = reinterpret_cast<const char*>(auxiliary_end[1]);
  }
  auxiliary_end += 2;

  // Without /proc (an empty chroot) the name it was started by has to do.
  char* const path = g_text + sizeof(kOrigin) - 1;
  intptr_t length = Call(SYS_readlink, Address("/proc/self/exe"), Address(path), PATH_MAX);
  const bool has_proc = length > 0;
  if (!has_proc) {
    length = Length(started_as);
    if (length == 0 || length > PATH_MAX) Fail("cannot tell where it is: /proc is not mounted", "");
    for (intptr_t i = 0; i < length; ++i) path[i] = started_as[i];
  }
  while (length > 0 && path[length - 1] != '/') --length;
  if (length == 0)
    path[length++] = '.';
  else if (length > 1)
    --length;
  for (size_t i = 0; i < sizeof(kLoader); ++i) path[length + i] = kLoader[i];

  TrunBundleStart start{0, stack};
  const uintptr_t base = MapLoader(path, &start.loader);
  ShowInterpreter(segments, segment_count);
  for (uintptr_t* entry = auxiliary; entry[0] != AT_NULL; entry += 2) {
    if (entry[0] == AT_PHDR) entry[1] = Address(g_segments);
    if (entry[0] == AT_BASE) entry[1] = base;
    if (entry[0] == AT_ENTRY) entry[1] = Address(reinterpret_cast<const void*>(&_start));
  }
  if (has_proc) return start;

  // The loader asks /proc/self/exe what $ORIGIN is, and this variable where there is none. All moves down by
  // two words, as the stack must stay aligned to 16 bytes, and what lies behind the new variable up again by
  // one.
  for (size_t i = 0; i + 1 < sizeof(kOrigin); ++i) g_text[i] = kOrigin[i];
  path[length] = '\0';
  start.stack = stack - 2;
  uintptr_t* to = start.stack;
  for (uintptr_t* from = stack; from < environment_end; ++from) *to++ = *from;
  *to++ = Address(g_text);
  for (uintptr_t* from = environment_end; from < auxiliary_end; ++from) *to++ = *from;
  return start;
}
