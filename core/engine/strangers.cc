#include "core/engine/strangers.hh"

namespace burin::engine {

namespace {
constexpr std::string_view for_another = "made room for another connection";
// So many are looked at when memory is short: a stranger that holds ten times what the others do
// is found soon, and one that holds little has nothing to fear.
constexpr int looked_at = 8;
// Of the strangers there, the part that goes when descriptors have run out.
constexpr std::size_t shed_share = 16;
}  // namespace

bool strangers::add(stranger& s) noexcept {
    const bool room = _list.size() < _limits.connections;
    if (!room) {
        ++_counters.for_number;
        any().make_room(for_another);
    }
    s._index = _list.size();
    _list.push_back(&s);
    _counters.connections = _list.size();
    return room;
}

void strangers::remove(stranger& s) noexcept {
    if (s._index == stranger::nowhere) return;
    stranger* last = _list.back();
    _list[s._index] = last;
    last->_index = s._index;
    _list.pop_back();
    s._index = stranger::nowhere;
    _counters.connections = _list.size();
    _counters.bytes -= s._bytes;
    s._bytes = 0;
}

bool strangers::hold(stranger& s, std::size_t bytes) noexcept {
    if (s._index == stranger::nowhere || bytes == s._bytes) return true;
    _counters.bytes += bytes - s._bytes;  // unsigned: it comes out right for less, too
    s._bytes = bytes;
    bool room = true;
    while (_counters.bytes > _limits.bytes && !_list.empty()) {
        room = false;
        stranger* most = &any();
        for (int i = 1; i < looked_at; ++i)
            if (stranger& other = any(); other._bytes > most->_bytes) most = &other;
        ++_counters.for_memory;
        most->make_room("made room: too much is held for connections before login");
    }
    return room;
}

std::size_t strangers::shed() noexcept {
    const std::size_t count = (_list.size() + shed_share - 1) / shed_share;
    for (std::size_t i = 0; i < count && !_list.empty(); ++i) {
        ++_counters.for_descriptors;
        any().make_room("made room: no descriptors are left");
    }
    return count;
}

}  // namespace burin::engine
