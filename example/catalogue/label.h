#pragma once

// A Label is the other side: a record label with an HTTP API of its own, which knows nothing of
// dmm.
//
//   GET /albums?page=2      {"albums": [{"id", "title", "revision"}, ...], "pages": 5}
//   GET /albums/a7          {"id": "a7", "title": ..., "revision": 3, "songs": [...]}; 404: not
//   there
//
// Some requests fail, as told: half of those with a 500, half in the midst of the answer.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace example {

/// An album as the label tells it, and as the shop informs it.
struct Album {
  std::string name;  ///< its id
  std::string title;
  std::int64_t revision = 0;

  std::string id() const { return name; }
  static std::string kind() { return "album"; }
  std::int64_t compare(const Album& stored) const { return revision - stored.revision; }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Album, name, title, revision)

/// All methods may be called from any thread.
class Label final {
 public:
  Label();
  ~Label();
  Label(const Label&) = delete;
  Label& operator=(const Label&) = delete;

  int port() const noexcept;
  void release(const std::string& id, const std::string& title);
  /// Changes the title. Returns the album as it is now.
  Album rename(const std::string& id, const std::string& title);
  void withdraw(const std::string& id);
  /// failing   share of requests, 0 to 1.
  void misbehave(double failing);
  /// What it has: id and title.
  std::vector<Album> albums() const;
  std::uint64_t failed() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// A page of the label's list.
struct LabelPage {
  std::vector<Album> albums;
  int pages = 0;
};
/// Throws std::runtime_error if the label does not answer well.
LabelPage fetch_page(int port, int page);
/// The songs of an album; nothing if the label does not have it any more. Throws as fetch_page().
std::optional<std::vector<std::string>> fetch_songs(int port, const std::string& id);

/// The shop's own endpoint, which the label calls: POST /changed with an album.
/// changed   called on threads of the server; what it throws is answered with a 500.
class Webhook final {
 public:
  explicit Webhook(std::function<void(const Album&)> changed);
  ~Webhook();
  Webhook(const Webhook&) = delete;
  Webhook& operator=(const Webhook&) = delete;
  int port() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// What the label does when something changed. False if the shop did not take it.
bool call_webhook(int port, const Album& album);

}  // namespace example
