#include "tests/fuzz/target.hh"

#include <vector>

namespace fuzz {
namespace {

// Targets register themselves before main(), in the order of the linker.
std::vector<const target*>& all() {
    static std::vector<const target*> list;
    return list;
}

}  // namespace

target::target(std::string_view name_, function run_, std::string_view covers_)
    : name(name_), run(run_), covers(covers_) {
    all().push_back(this);
}

std::span<const target* const> targets() {
    return all();
}

}  // namespace fuzz
