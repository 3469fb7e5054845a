// A PostGraphile server for `python -m tests.bench.reads`: node server.cjs FOLDER DSN PORT.
// FOLDER is where PostGraphile is installed: see README.md beside this file.
const { createServer } = require("node:http");
const { createRequire } = require("node:module");
const { join } = require("node:path");

const [, , folder, dsn, port] = process.argv;
const installed = createRequire(join(folder, "package.json"));
const { postgraphile } = installed("postgraphile");
const { grafserv } = installed("postgraphile/grafserv/node");
const { makePgService } = installed("postgraphile/adaptors/pg");
const amber = installed("postgraphile/presets/amber");

const preset = {
  extends: [amber.default ?? amber],
  plugins: [],
  disablePlugins: ["MutationPlugin"],
  pgServices: [makePgService({ connectionString: dsn, schemas: ["peer"], pubsub: false, poolConfig: { max: 10 } })],
  grafserv: { graphqlPath: "/graphql", graphiql: false, watch: false, websockets: false },
  grafast: { explain: false },
  schema: { defaultBehavior: "+list" },
};

async function main() {
  const instance = postgraphile(preset);
  const service = instance.createServ(grafserv);
  const server = createServer();
  server.on("error", (error) => { console.error(error.message); process.exit(1); });
  await service.addTo(server);
  server.listen(Number(port), "127.0.0.1", () => console.log("ready"));
}

main().catch((error) => { console.error(error.message); process.exit(1); });
