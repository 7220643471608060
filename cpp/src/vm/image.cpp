#include <infrastructure_sdk/vm/image.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

constexpr std::uintmax_t manifest_limit = 1u << 20;
constexpr const char* name_grammar =
    "a name of 1 to 63 of a-z 0-9 . _ -, that begins with a letter or digit, without '..',";

bool is_lower_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

bool is_image_name(const std::string& name) {
    auto good = [](char c) { return is_lower_or_digit(c) || c == '.' || c == '_' || c == '-'; };
    return !name.empty() && name.size() <= 63 && is_lower_or_digit(name.front()) &&
           std::all_of(name.begin(), name.end(), good) && name.find("..") == std::string::npos;
}

bool is_printable(const std::string& text) {
    return std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

bool is_sha256(const std::string& text) {
    auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
    return text.size() == 64 && std::all_of(text.begin(), text.end(), hex);
}

std::string making_of(const std::string& name) {
    return name.starts_with("windows-") ? "install " + name + " --iso FILE --drivers FILE" : "build " + name;
}

/// Reads one manifest and collects what is wrong with it.
class ManifestReader {
public:
    ManifestReader(fs::path folder, std::string name) : folder_(std::move(folder)), name_(std::move(name)) {}

    ImageFiles read(const json& manifest) {
        ImageFiles image;
        image.name = name_;
        if (!manifest.is_object()) {
            problem("manifest", "an object is needed");
            refuse();
        }
        if (manifest.value("schema", json()) != 1) problem("schema", "it must be 1; build the image again");
        if (text(manifest, "name", "") != name_) problem("name", "it must be '" + name_ + "', as the folder");
        image.version = text(manifest, "version", "");
        image.kernel_arguments = text(manifest, "kernel_arguments", "");
        auto files = manifest.find("files");
        if (files == manifest.end() || !files->is_object()) {
            problem("files", "an object is needed");
            refuse();
        }
        if (auto* kernel = entry(*files, "kernel")) image.kernel = file(*kernel, "files.kernel");
        if (auto* initrd = entry(*files, "initrd")) image.initrd = file(*initrd, "files.initrd");
        if (auto* disk = entry(*files, "disk")) {
            image.disk = file(*disk, "files.disk");
            image.disk_format = text(*disk, "format", "files.disk.");
            if (image.disk_format != "qcow2" && image.disk_format != "raw")
                problem("files.disk.format", "it must be qcow2 or raw");
            image.disk_size_bytes = size(*disk, "virtual_size_bytes", "files.disk.");
        }
        if (auto* disc = entry(*files, "disc")) image.disc = file(*disc, "files.disc");
        if (!entry(*files, "kernel") && !entry(*files, "disk")) problem("files", "a kernel or a disk is needed");
        if (entry(*files, "initrd") && !entry(*files, "kernel")) problem("files.initrd", "it needs a kernel");
        if (!problems_.empty()) refuse();
        return image;
    }

private:
    void problem(const std::string& field, const std::string& why) {
        if (field_.empty()) field_ = field;
        problems_ += "\n  " + field + ": " + why;
    }

    [[noreturn]] void refuse() const {
        throw Error(Errc::validation, "the manifest of image '" + name_ + "' is wrong:" + problems_,
                    {{"field", field_}, {"image", name_}});
    }

    static const json* entry(const json& files, const char* name) {
        auto it = files.find(name);
        return it == files.end() || it->is_null() ? nullptr : &*it;
    }

    std::string text(const json& object, const char* key, const std::string& prefix) {
        auto it = object.is_object() ? object.find(key) : object.end();
        if (!object.is_object() || it == object.end() || it->is_null()) return {};
        if (it->is_string() && is_printable(it->get_ref<const std::string&>())) return it->get<std::string>();
        problem(prefix + key, "a text without control characters is needed");
        return {};
    }

    std::uint64_t size(const json& object, const char* key, const std::string& prefix) {
        auto it = object.is_object() ? object.find(key) : object.end();
        bool good = object.is_object() && it != object.end() && it->is_number_unsigned() && *it > 0;
        if (good) return it->get<std::uint64_t>();
        problem(prefix + key, "a whole number above zero is needed");
        return 0;
    }

    /// The absolute path of a file that is what the manifest says; its contents are not hashed here.
    std::string file(const json& object, const std::string& field) {
        if (!object.is_object()) {
            problem(field, "an object is needed");
            return {};
        }
        auto relative = text(object, "path", field + ".");
        auto wanted = size(object, "size_bytes", field + ".");
        if (!is_sha256(text(object, "sha256", field + "."))) problem(field + ".sha256", "64 hex digits are needed");
        auto path = inside(relative, field + ".path");
        if (!path) return {};
        std::error_code error;
        auto actual = fs::file_size(*path, error);
        if (error || (wanted != 0 && actual != wanted))
            problem(field + ".size_bytes", "'" + relative + "' has " + (error ? "no size" : std::to_string(actual)) +
                                               " bytes, not " + std::to_string(wanted) + "; make the image again");
        return path->string();
    }

    std::optional<fs::path> inside(const std::string& relative, const std::string& field) {
        fs::path path(relative);
        bool leaves = std::any_of(path.begin(), path.end(), [](const fs::path& part) { return part == ".."; });
        if (relative.empty() || path.is_absolute() || leaves) {
            problem(field, "a relative path inside the image's folder is needed");
            return std::nullopt;
        }
        // A symbolic link anywhere on the way could lead out of the folder.
        fs::path walked = folder_;
        fs::file_status status;
        for (const auto& part : path) {
            walked /= part;
            std::error_code error;
            status = fs::symlink_status(walked, error);
            if (fs::is_symlink(status)) {
                problem(field, "'" + relative + "' is or goes through a symbolic link");
                return std::nullopt;
            }
        }
        if (fs::is_regular_file(status)) return walked;
        problem(field, "'" + relative + "' " + (fs::exists(status) ? "is not a regular file" : "is missing") +
                           "; make the image again");
        return std::nullopt;
    }

    fs::path folder_;
    std::string name_;
    std::string problems_;
    std::string field_;
};

}  // namespace

ImageFiles load_image(const std::string& directory, const std::string& name) {
    if (!is_image_name(name))
        throw Error(Errc::validation, "'" + name + "' is not the name of an image; " + name_grammar + " is needed",
                    {{"field", "image"}, {"value", name}, {"allowed", name_grammar}});
    auto folder = fs::absolute(directory).lexically_normal() / name;
    auto manifest_path = folder / "manifest.json";
    std::error_code error;
    auto status = fs::symlink_status(manifest_path, error);
    if (!fs::exists(status))
        throw Error(Errc::not_found,
                    "there is no image '" + name + "' in '" + directory + "'; run `infra-sdk image " + making_of(name) +
                        "`, or `infra-sdk image import FILE --name " + name + "` for a disk of your own",
                    {{"field", "image"}, {"value", name}, {"image_directory", directory}});
    auto size = fs::is_regular_file(status) ? fs::file_size(manifest_path, error) : manifest_limit + 1;
    if (error || size > manifest_limit)
        throw Error(Errc::validation, "the manifest of image '" + name + "' is not a file of at most 1 MiB",
                    {{"field", "manifest"}, {"image", name}});
    std::ifstream file(manifest_path, std::ios::binary);
    auto manifest = json::parse(std::istreambuf_iterator<char>(file), {}, nullptr, false);
    if (!file || manifest.is_discarded())
        throw Error(Errc::validation, "the manifest of image '" + name + "' cannot be read, or is not JSON",
                    {{"field", "manifest"}, {"image", name}});
    return ManifestReader(folder, name).read(manifest);
}

}  // namespace infrastructure_sdk
