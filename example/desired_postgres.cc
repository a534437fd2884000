#include <fmt/format.h>

#include <mutex>
#include <pqxx/pqxx>
#include <stdexcept>

#include "example/desired.h"

namespace example {
namespace {

// What libpq says ends with a line end.
std::string trimmed(std::string text) {
  text.erase(text.find_last_not_of(" \n") + 1);
  return text;
}

class PostgresSongs final : public DesiredSongs {
 public:
  PostgresSongs(std::string url, dmm::Bucket& bucket) : url_(std::move(url)), bucket_(bucket) {
    transact([](pqxx::work& transaction) {
      // Two processes that start at once must not both create it.
      transaction.exec("SELECT pg_advisory_xact_lock(hashtext('music_players'))");
      transaction.exec(
          "CREATE TABLE IF NOT EXISTS music_players ("
          " id text PRIMARY KEY,"
          " desired_song text NOT NULL)");
    });
  }

  std::optional<std::string> find(const std::string& player) override {
    std::optional<std::string> song;
    transact([&](pqxx::work& transaction) {
      const pqxx::result rows =
          transaction.exec_params("SELECT desired_song FROM music_players WHERE id = $1", player);
      if (!rows.empty()) song = rows[0][0].as<std::string>();
    });
    return song;
  }

  std::map<std::string, std::string> all() override {
    std::map<std::string, std::string> songs;
    transact([&](pqxx::work& transaction) {
      for (const auto& row : transaction.exec("SELECT id, desired_song FROM music_players")) {
        songs[row[0].as<std::string>()] = row[1].as<std::string>();
      }
    });
    return songs;
  }

  void declare(const std::map<std::string, std::string>& songs) override {
    transact([&](pqxx::work& transaction) {
      for (const auto& [player, song] : songs) {
        transaction.exec_params(
            "INSERT INTO music_players (id, desired_song) VALUES ($1, $2)"
            " ON CONFLICT (id) DO UPDATE SET desired_song = excluded.desired_song",
            player, song);
      }
    });
    // After the commit, so that a run sees the new song. The cache of a player is not ours to
    // replace, so there are no news to bring: a poke. If we die before it, the workers' resync
    // finds the difference.
    for (const auto& [player, song] : songs) bucket_.poke(player_identity(player));
  }

 private:
  // One connection for all threads: a query takes a fraction of a millisecond. There is no retry
  // here either. What fails is thrown, dmm runs the materializer again, and that opens a new
  // connection.
  template <class Work>
  void transact(Work work) {
    const std::lock_guard lock(mutex_);
    try {
      if (!connection_) connect();
      pqxx::work transaction(*connection_);
      work(transaction);
      transaction.commit();
    } catch (const pqxx::sql_error&) {
      throw;  // the statement was refused; the connection is sound
    } catch (const std::exception& e) {
      connection_.reset();
      throw std::runtime_error(fmt::format("PostgreSQL: {}", trimmed(e.what())));
    }
  }

  void connect() {
    connection_ = std::make_unique<pqxx::connection>(url_);
    // libpqxx 6 would otherwise reconnect behind our back, in the middle of whatever we do.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    connection_->inhibit_reactivation(true);
#pragma GCC diagnostic pop
  }

  const std::string url_;
  dmm::Bucket& bucket_;
  std::mutex mutex_;
  std::unique_ptr<pqxx::connection> connection_;  // guarded by mutex_
};

}  // namespace

std::unique_ptr<DesiredSongs> open_postgres_songs(const std::string& url, dmm::Bucket& bucket) {
  try {
    return std::make_unique<PostgresSongs>(url, bucket);
  } catch (const std::exception& e) {
    throw std::runtime_error(fmt::format(
        "{}\n  Name the right database with --postgres or MUSIC_POSTGRES, or do without one: "
        "--desired kv",
        e.what()));
  }
}

}  // namespace example
