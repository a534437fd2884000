// A shop keeps the albums of a record label: they come from the label's paged list and from its
// webhook, and each is worked by asking the label for its songs. Shows all of it with servers of
// its own: `example_catalogue`. Exit code 0: the shop ended with what the label has.

#include <fmt/format.h>

#include <functional>
#include <map>
#include <mutex>

#include <pqxx/pqxx>

#include "dmm/resource/events.h"
#include "dmm/resource/host.h"
#include "dmm/resource/migrations.h"
#include "dmm/testing/nats_server.h"
#include "dmm/testing/postgres_server.h"
#include "dmm/testing/wait_for.h"
#include "example/catalogue/label.h"

namespace example {

namespace {

using namespace std::chrono_literals;
namespace resource = dmm::resource;

constexpr int kAlbums = 120;

/// Keeps the shop's albums as the label has them.
class Catalogue {
 public:
  explicit Catalogue(int label_port) : label_port_(label_port) {}

  resource::Verdict work(resource::WorkContext&, const resource::Resource<Album>& album) {
    // No transaction is open while the label is asked, however long it takes.
    const auto songs = fetch_songs(label_port_, album.object.name);
    const std::string id = album.object.name;
    if (!songs) {
      return resource::Verdict::deleted("the label has withdrawn it")
          .and_commit([id](pqxx::transaction_base& transaction) {
            transaction.exec_params("DELETE FROM album WHERE id = $1", id);
          });
    }
    return resource::Verdict::synced().and_commit(
        [id, title = album.object.title,
         songs = nlohmann::json(*songs).dump()](pqxx::transaction_base& transaction) {
          transaction.exec_params(
              "INSERT INTO album (id, title, songs) VALUES ($1, $2, $3::jsonb)"
              " ON CONFLICT (id) DO UPDATE SET title = excluded.title, songs = excluded.songs",
              id, title, songs);
        });
  }

  resource::Listed inform(resource::InformContext& context, resource::Sink<Album>& sink) {
    int page = context.checkpoint().is_null() ? 1 : context.checkpoint().get<int>();
    while (true) {
      const LabelPage got = fetch_page(label_port_, page);  // what it throws: again, from here on
      for (const Album& album : got.albums) sink.put(album);
      if (page >= got.pages) return resource::Listed::complete();
      sink.checkpoint(++page);
    }
  }

 private:
  int label_port_;
};

/// The shop's end of the webhook: a note of the call and the news commit together, or neither.
class Shop {
 public:
  explicit Shop(const std::string& connection) : client_(connection), connection_(connection) {
    pqxx::nontransaction(connection_)
        .exec(
            "SET search_path = public;"
            "CREATE TABLE public.album (id text PRIMARY KEY, title text, songs jsonb);"
            "CREATE TABLE public.call (at timestamptz DEFAULT now(), album text)");
  }

  void changed(const Album& album) {
    const std::lock_guard lock(mutex_);
    pqxx::work transaction(connection_);
    transaction.exec_params("INSERT INTO public.call (album) VALUES ($1)", album.name);
    client_.inform_tx(transaction, album);
    transaction.commit();
  }

  /// Whether the shop has exactly what the label has, with its songs.
  bool equals(const std::vector<Album>& albums) {
    const std::lock_guard lock(mutex_);
    pqxx::nontransaction transaction(connection_);
    std::map<std::string, std::string> titles;
    for (const auto& row : transaction.exec(
             "SELECT id, title FROM public.album WHERE songs ->> 0 = title || ', part 1'")) {
      titles[row[0].as<std::string>()] = row[1].as<std::string>();
    }
    std::map<std::string, std::string> wanted;
    for (const Album& album : albums) wanted[album.name] = album.title;
    return titles == wanted;
  }

 private:
  resource::Client client_;
  std::mutex mutex_;
  pqxx::connection connection_;
};

void show(const char* what, const std::function<bool()>& condition) {
  const auto begun = std::chrono::steady_clock::now();
  dmm::testing::wait_for(what, condition, 60s);
  fmt::print("  {} after {} ms\n", what,
             (std::chrono::steady_clock::now() - begun) / std::chrono::milliseconds(1));
  std::fflush(stdout);
}

int run() {
  fmt::print("Starting PostgreSQL, nats-server and a record label with {} albums\n", kAlbums);
  const dmm::testing::PostgresServer postgres;
  const dmm::testing::NatsServer nats;
  const std::string connection = postgres.connection_string() + " options='-c search_path=public'";
  resource::migrate(connection);
  Label label;
  for (int i = 0; i < kAlbums; ++i) {
    label.release(fmt::format("a{}", i), fmt::format("Album {}", i));
  }
  Shop shop(connection);
  const Webhook webhook([&shop](const Album& album) { shop.changed(album); });

  dmm::BucketOptions bucket_options;
  bucket_options.connection.servers = {nats.url()};
  bucket_options.logger = dmm::Logger::standard(dmm::Level::error);
  dmm::Bucket bucket = dmm::Bucket::open("shop", std::move(bucket_options));
  resource::HostOptions options;
  options.logger = dmm::Logger::standard(dmm::Level::error);
  resource::Host host(bucket, connection, options);
  resource::KindOptions kind;
  kind.retry = [](int) { return 200ms; };  // it is near, and a demonstration
  kind.inform = resource::Schedule::every(1min, 0ms);
  host.add<Album>(Catalogue(label.port()), kind);

  fmt::print("The label fails at a third of all requests; the shop begins\n");
  label.misbehave(0.33);
  host.start();
  show("the shop has the whole list", [&] { return shop.equals(label.albums()); });

  fmt::print(
      "The label renames an album and calls the webhook; the call and the news commit "
      "together\n");
  if (!call_webhook(webhook.port(), label.rename("a7", "Kind of Blue"))) return 1;
  show("the shop has the new title", [&] { return shop.equals(label.albums()); });

  fmt::print("The same call once more, late, with the old title: it is stale and refused\n");
  if (!call_webhook(webhook.port(), {"a7", "Album 7", 1})) return 1;

  fmt::print("The label withdraws two albums and says nothing; a full list finds them missing\n");
  label.withdraw("a3");
  label.withdraw("a99");
  host.client().schedule_inform("album", {.full = true});
  show("the shop has let go of them", [&] { return shop.equals(label.albums()); });

  host.stop();
  const resource::HostStats stats = host.stats();
  fmt::print("{} albums; {} works, {} of them failed and were tried again; {} requests failed\n",
             label.albums().size(), stats.worked, stats.failed, label.failed());
  std::map<std::string, int> counts;
  for (const resource::Event& event : resource::Events(bucket).read({}, {}, 100'000)) {
    ++counts[event.name];
  }
  for (const auto& [name, count] : counts) fmt::print("  event {}: {}\n", name, count);
  return shop.equals(label.albums()) ? 0 : 1;
}

}  // namespace

}  // namespace example

int main() {
  try {
    return example::run();
  } catch (const std::exception& e) {
    fmt::print(stderr, "example_catalogue: {}\n", e.what());
    return 1;
  }
}
