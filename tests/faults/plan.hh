// What is to go wrong, as text: words `name=value` with blanks between them.
//
//   seed=7 receive=ENOMEM:1/100,cut:1/3 send=late:1/10 enter=EBUSY:1/4 completions=64
//
// An operation has the name of its function in ring/ring.hh; `enter` is io_uring_enter itself,
// `shutdown`, `socket` and `mmap` are the system calls. Each of its faults comes `times` in `of`
// tries:
//   an errno's name: the operation does not happen, and that is its result
//   cut              a receive or send of a stream moves fewer bytes than it could
//   late             the completion comes up to 20 ms after it was there
// `submissions` and `completions` are the sizes of rings that are made from now on.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace burin::faults {

enum class operation : std::uint8_t {
    receive,  // also receive_select()
    receive_message,
    receive_messages,
    send,
    send_zero_copy,
    send_message,
    accept,
    connect,
    shutdown,
    cancel,
    close,
    poll,
    read,
    read_frames,
    write_vector,
    message,
    enter,
    socket,
    mmap,
    count
};
inline constexpr auto operations = static_cast<std::size_t>(operation::count);

std::string_view name_of(operation) noexcept;

struct rule {
    enum class kind : std::uint8_t { error, cut, late };
    kind what = kind::error;
    int error = 0;
    std::uint32_t times = 0, of = 1;
};

struct plan {
    std::uint64_t seed = 1;
    unsigned submissions = 0, completions = 0;  // 0: as the program says
    std::array<std::vector<rule>, operations> rules;

    const std::vector<rule>& of(operation o) const noexcept {
        return rules[static_cast<std::size_t>(o)];
    }
};

// Nothing: the text is no plan.
std::optional<plan> parse_plan(std::string_view);

}  // namespace burin::faults
