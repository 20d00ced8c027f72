// Calls the catalogs, in whichever language they are, as the options in the proto file say.
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
require('@grpc/grpc-js-xds').register();

const shop = '../shop';
const {shop: {v1}} = grpc.loadPackageDefinition(loader.loadSync('shop/v1/catalog.proto', {
  includeDirs: [`${shop}/proto`, `${shop}/third_party/etcd`],
}));
const client = new v1.Catalog('xds:///shop.catalog', grpc.credentials.createInsecure());

const find = () => new Promise((resolve, reject) => {
  client.find({item: 'tea'}, new grpc.Metadata({waitForReady: true}), {deadline: Date.now() + 10000}, (err, reply) => err ? reject(err) : resolve(reply.server));
});

(async () => {
  const by = {};
  for (let n = 0; n < 100; n++) {
    const server = await find();
    by[server] = (by[server] || 0) + 1;
  }
  console.log('100 calls from Node:', by);
  process.exit(by.Go > 0 && by.Python > 0 ? 0 : 1);
})().catch((err) => {
  console.error(err);
  process.exit(1);
});
