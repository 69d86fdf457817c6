// --pack: a folder that holds all that a run needs, to be copied to another machine whole.
//
//   FOLDER/scaling     starts bin/bench_scaling; links nothing
//   FOLDER/bin         burin, bench_load, bench_scaling, with RPATH $ORIGIN/../lib
//   FOLDER/lib         every library that these load here, the C library too, and its loader
//
// The C library of the other machine may be older than the one that these were built with, and a
// program cannot bring a newer one along by RPATH alone: the loader's path in it is absolute, and
// loader and C library must be of one version. So each program is started through the loader that
// lies in lib (`scaling` and bench_scaling do so), and neither loader nor libraries of the other
// machine are looked at. What is left of it is the kernel.
#pragma once

#include <elf.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "bench/scaling_child.hh"

namespace scaling {

inline constexpr const char* packed_programs[] = {"bench_scaling", "bench_load", "burin"};

// The loader that the kernel would start a program through (elf(5), PT_INTERP).
inline std::string loader_of(const std::string& program) {
    std::ifstream file(program, std::ios::binary);
    Elf64_Ehdr head{};
    file.read(reinterpret_cast<char*>(&head), sizeof head);
    if (!file || std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
        head.e_ident[EI_CLASS] != ELFCLASS64)
        throw trouble(program + " is no 64-bit program");
    for (unsigned i = 0; i < head.e_phnum; ++i) {
        Elf64_Phdr part{};
        file.seekg(static_cast<std::streamoff>(head.e_phoff + i * sizeof part));
        file.read(reinterpret_cast<char*>(&part), sizeof part);
        if (!file || part.p_type != PT_INTERP) continue;
        std::string path(part.p_filesz, '\0');
        file.seekg(static_cast<std::streamoff>(part.p_offset));
        file.read(path.data(), static_cast<std::streamsize>(path.size()));
        return path.c_str();
    }
    throw trouble(program + " names no loader: it is linked statically or not a program");
}

// What a command says on stdout and stderr; a trouble unless it ends well.
inline std::string said_by(const words& command, const std::string& scratch) {
    child run(command, -1, {}, scratch);
    run.wait_until([&] { return !run.alive(); }, "ended in time", 60);
    if (!run.well()) throw trouble(command.front() + " failed: " + run.last_words());
    return text_of(scratch);
}

// Name and place of each library, as the loader finds them: "  name => path (0x...)".
inline std::vector<std::pair<std::string, std::string>> libraries_in(const std::string& list) {
    std::vector<std::pair<std::string, std::string>> found;
    std::istringstream lines(list);
    for (std::string line; std::getline(lines, line);) {
        const std::size_t arrow = line.find(" => "), end = line.rfind(" (0x");
        const std::size_t begin = line.find_first_not_of(" \t");
        if (arrow == line.npos || begin == line.npos) continue;
        if (end == line.npos || end < arrow + 4) throw trouble("a library is missing:" + line);
        found.emplace_back(line.substr(begin, arrow - begin),
                           line.substr(arrow + 4, end - arrow - 4));
    }
    return found;
}

inline void pack(const programs& tools, const std::string& to) {
    namespace fs = std::filesystem;
    if (!tools.loader.empty()) throw trouble("this is a packed folder: copy it whole");
    const fs::path folder = fs::absolute(to);
    if (fs::exists(folder) && !fs::is_empty(folder))
        throw trouble(folder.string() + " is there and not empty");
    const fs::path bin = folder / "bin", lib = folder / "lib";
    fs::create_directories(bin);
    fs::create_directories(lib);
    const std::string scratch = (folder / "said").string();
    const auto copy = [](const fs::path& from, const fs::path& at) {
        fs::copy_file(from, at, fs::copy_options::overwrite_existing);  // where links lead
    };
    std::string loader;
    for (const char* name : packed_programs) {
        const std::string program = tools.folder + "/" + name;
        if (!fs::exists(program)) throw trouble("there is no " + program + ": build it");
        loader = loader_of(program);
        for (const auto& [library, path] :
             libraries_in(said_by({loader, "--list", program}, scratch)))
            copy(path, lib / library);
        copy(program, bin / name);
        try {
            // DT_RPATH, which holds for the libraries' libraries as well.
            said_by({"/usr/bin/patchelf", "--force-rpath", "--set-rpath", "$ORIGIN/../lib",
                     (bin / name).string()},
                    scratch);
        } catch (const trouble& why) {
            throw trouble(std::string(why.what()) + " (the package patchelf is needed to pack)");
        }
    }
    const std::string own_loader = (lib / fs::path(loader).filename()).string();
    copy(loader, own_loader);
    copy(tools.folder + "/bench_scaling_start", folder / "scaling");
    // It starts, from there.
    const programs packed{bin.string(), own_loader, lib.string()};
    said_by(packed.command("burin", {"version"}), scratch);
    said_by({(folder / "scaling").string(), "--plan"}, scratch);
    fs::remove(scratch);
}

}  // namespace scaling
