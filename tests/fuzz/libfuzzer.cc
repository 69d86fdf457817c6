// What libFuzzer calls, in a program with one target (https://llvm.org/docs/LibFuzzer.html).
#include "tests/fuzz/target.hh"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::targets().front()->run({reinterpret_cast<const std::byte*>(data), size});
    return 0;
}
