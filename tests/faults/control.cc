#include "tests/faults/control.hh"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

// mmap itself may be a fault's.
extern "C" void* __real_mmap(void*, size_t, int, int, int, off_t);

namespace burin::faults {

namespace {

[[noreturn]] void useless(const char* what) {
    std::fprintf(stderr, "faults: %s\n", what);
    std::abort();
}

page& open_page() {
    static page own{};
    const char* path = std::getenv("BURIN_FAULTS");
    if (path == nullptr) return own;
    const int fd = ::open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) useless("BURIN_FAULTS names no file that can be opened");
    void* at = __real_mmap(nullptr, sizeof(page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ::close(fd);
    if (at == MAP_FAILED) useless("the file that BURIN_FAULTS names cannot be mapped");
    return *static_cast<page*>(at);
}

}  // namespace

page& shared_page() {
    static page& one = open_page();
    return one;
}

void set_plan(std::string_view text) {
    page& p = shared_page();
    ++p.generation;
    text = text.substr(0, sizeof p.text - 1);
    std::memcpy(p.text, text.data(), text.size());
    p.text[text.size()] = 0;
    ++p.generation;
}

dice& dice::mine() {
    static thread_local dice one;
    return one;
}

dice::dice() {
    static std::atomic<std::uint64_t> threads{0};
    _thread = ++threads;
}

const plan& dice::now() {
    page& p = shared_page();
    std::uint32_t generation = p.generation.load(std::memory_order_acquire);
    if (generation == _generation || (generation & 1) != 0) return _plan;
    std::string text(p.text, strnlen(p.text, sizeof p.text));
    std::atomic_thread_fence(std::memory_order_acquire);
    if (p.generation.load(std::memory_order_relaxed) != generation) return _plan;
    auto parsed = parse_plan(text);
    if (!parsed) useless(("no plan: " + text).c_str());
    _plan = std::move(*parsed);
    _generation = generation;
    _state = _plan.seed * 0x9e3779b97f4a7c15u + _thread;
    return _plan;
}

std::uint32_t dice::number(std::uint32_t below) noexcept {
    // SplitMix64.
    std::uint64_t z = (_state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return static_cast<std::uint32_t>((z ^ (z >> 31)) >> 32) % below;
}

const rule* dice::roll(operation o, bool (*fits)(rule::kind)) {
    const auto& rules = now().of(o);
    page& p = shared_page();
    const auto index = static_cast<std::size_t>(o);
    p.tried[index].fetch_add(1, std::memory_order_relaxed);
    for (const rule& r : rules) {
        if (!fits(r.what) || number(r.of) >= r.times) continue;
        p.failed[index].fetch_add(1, std::memory_order_relaxed);
        return &r;
    }
    return nullptr;
}

}  // namespace burin::faults
