#include <infrastructure_sdk/vm/image.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "vm/image_cache.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

class Image : public testing::Test {
protected:
    Image() {
        std::string pattern = (fs::temp_directory_path() / "image.XXXXXX").string();
        directory_ = ::mkdtemp(pattern.data());
        folder_ = directory_ / "tiny";
        fs::create_directory(folder_);
        write("kernel", "kernel");
        write("initrd", "initrd!");
        write("disk.qcow2", "disk");
        const std::string hash(64, 'a');
        manifest_ = {{"schema", 1},
                     {"name", "tiny"},
                     {"version", "1"},
                     {"os", "linux"},
                     {"architecture", "x86_64"},
                     {"kernel_arguments", "console=ttyS0"},
                     {"channels", {"agent"}},
                     {"files",
                      {{"kernel", {{"path", "kernel"}, {"sha256", hash}, {"size_bytes", 6}}},
                       {"initrd", {{"path", "initrd"}, {"sha256", hash}, {"size_bytes", 7}}},
                       {"disk",
                        {{"path", "disk.qcow2"},
                         {"format", "qcow2"},
                         {"virtual_size_bytes", 1048576},
                         {"sha256", hash},
                         {"size_bytes", 4}}}}}};
    }
    ~Image() override { fs::remove_all(directory_); }

    void write(const std::string& name, const std::string& text) const {
        std::ofstream(folder_ / name, std::ios::binary) << text;
    }

    ImageFiles load(const std::string& name = "tiny") const {
        write("manifest.json", manifest_.dump());
        return load_image(directory_.string(), name);
    }

    /// The message of the error that loading gives; empty when it gives none.
    std::string refusal(Errc code = Errc::validation) const {
        try {
            load();
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), code) << error.message();
            return error.message();
        }
        return {};
    }

    fs::path directory_;
    fs::path folder_;
    json manifest_;
};

bool says(const std::string& message, const std::string& part) { return message.find(part) != std::string::npos; }

TEST_F(Image, GivesAbsolutePathsOfTheFiles) {
    auto image = load();
    EXPECT_EQ(image.name, "tiny");
    EXPECT_EQ(image.version, "1");
    EXPECT_EQ(image.kernel, (folder_ / "kernel").string());
    EXPECT_EQ(image.initrd, (folder_ / "initrd").string());
    EXPECT_EQ(image.disk, (folder_ / "disk.qcow2").string());
    EXPECT_EQ(image.disk_format, "qcow2");
    EXPECT_EQ(image.disk_size_bytes, 1048576u);
    EXPECT_EQ(image.kernel_arguments, "console=ttyS0");
}

TEST_F(Image, TheCacheNoticesEveryChange) {
    ImageCache cache;
    auto cached = [&] { return cache.load(directory_.string(), "tiny"); };
    load();
    EXPECT_EQ(cached().version, "1");
    EXPECT_EQ(cached().kernel, (folder_ / "kernel").string());
    manifest_["version"] = "2-longer";
    load();
    EXPECT_EQ(cached().version, "2-longer");
    write("kernel", "shorter kernel");
    EXPECT_THROW(cached(), Error) << "the file is not what the manifest says";
    write("kernel", "kernel");
    EXPECT_EQ(cached().version, "2-longer");
    fs::remove(folder_ / "initrd");
    EXPECT_THROW(cached(), Error);
    fs::remove_all(folder_);
    EXPECT_THROW(cached(), Error);
    fs::create_directory(folder_);
}

TEST_F(Image, AKernelOrADiskAloneIsEnough) {
    auto all = manifest_;
    manifest_["files"].erase("disk");
    EXPECT_EQ(load().disk, "");
    manifest_ = all;
    manifest_["files"].erase("kernel");
    manifest_["files"].erase("initrd");
    EXPECT_EQ(load().kernel, "");
    manifest_["files"] = json::object();
    EXPECT_TRUE(says(refusal(), "a kernel or a disk is needed"));
}

TEST_F(Image, AMissingOneNamesTheCommandThatMakesIt) {
    try {
        load("other");
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::not_found);
        EXPECT_TRUE(says(error.message(), "infra-sdk image build other")) << error.message();
    }
}

TEST_F(Image, NamesThatAreNoNamesNeverReachTheDisk) {
    for (const char* name : {"", "..", "../tiny", "a/b", "/etc", "Tiny", ".hidden", "-x", "a..b", "tiny\n"}) try {
            load(name);
            ADD_FAILURE() << name;
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::validation) << name;
        }
    EXPECT_THROW(load(std::string(64, 'a')), Error);
}

TEST_F(Image, PathsMayNotLeaveTheFolder) {
    fs::create_directory(directory_ / "outside");
    std::ofstream(directory_ / "outside" / "kernel") << "kernel";
    for (const char* path : {"/etc/passwd", "../outside/kernel", "sub/../../outside/kernel", "..", ""}) {
        manifest_["files"]["kernel"]["path"] = path;
        EXPECT_TRUE(says(refusal(), "files.kernel.path")) << path;
    }
}

TEST_F(Image, SymbolicLinksAreRefusedAnywhereOnTheWay) {
    fs::create_directory(directory_ / "outside");
    std::ofstream(directory_ / "outside" / "kernel") << "kernel";
    fs::create_symlink(directory_ / "outside" / "kernel", folder_ / "link");
    fs::create_directory_symlink(directory_ / "outside", folder_ / "sub");
    for (const char* path : {"link", "sub/kernel"}) {
        manifest_["files"]["kernel"]["path"] = path;
        EXPECT_TRUE(says(refusal(), "symbolic link")) << path;
    }
}

TEST_F(Image, FilesMustBeThereAndHaveTheirSize) {
    write("kernel", "longer kernel");
    fs::remove(folder_ / "initrd");
    fs::remove(folder_ / "disk.qcow2");
    fs::create_directory(folder_ / "disk.qcow2");
    auto message = refusal();
    EXPECT_TRUE(says(message, "'kernel' has 13 bytes, not 6")) << message;
    EXPECT_TRUE(says(message, "'initrd' is missing")) << message;
    EXPECT_TRUE(says(message, "'disk.qcow2' is not a regular file")) << message;
}

TEST_F(Image, AllProblemsOfAManifestComeAtOnce) {
    manifest_["schema"] = 2;
    manifest_["name"] = "other";
    manifest_["kernel_arguments"] = "a\nb";
    manifest_["files"]["kernel"]["sha256"] = "AA";
    manifest_["files"]["kernel"]["size_bytes"] = -1;
    manifest_["files"]["initrd"] = 5;
    manifest_["files"]["disk"]["format"] = "vmdk";
    manifest_["files"]["disk"].erase("virtual_size_bytes");
    auto message = refusal();
    for (const char* part :
         {"schema:", "name:", "kernel_arguments:", "files.kernel.sha256:", "files.kernel.size_bytes:", "files.initrd:",
          "files.disk.format:", "files.disk.virtual_size_bytes:"})
        EXPECT_TRUE(says(message, part)) << part << message;
}

TEST_F(Image, WrongShapesAreRefused) {
    for (json document : {json(), json::array(), json(5), json{{"schema", 1}, {"name", "tiny"}},
                          json{{"schema", 1}, {"name", "tiny"}, {"files", json::array()}}}) {
        manifest_ = document;
        EXPECT_NE(refusal(), "") << document;
    }
    write("manifest.json", "{");
    EXPECT_THROW(load_image(directory_.string(), "tiny"), Error);
    write("manifest.json", std::string(50000, '['));
    EXPECT_THROW(load_image(directory_.string(), "tiny"), Error);
    write("manifest.json", std::string((1u << 20) + 1, ' '));
    EXPECT_THROW(load_image(directory_.string(), "tiny"), Error);
}

TEST_F(Image, AManifestThatIsASymbolicLinkIsRefused) {
    write("real.json", manifest_.dump());
    fs::create_symlink(folder_ / "real.json", folder_ / "manifest.json");
    EXPECT_THROW(load_image(directory_.string(), "tiny"), Error);
}

}  // namespace
}  // namespace infrastructure_sdk
