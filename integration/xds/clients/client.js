// Makes calls by grpc-js, as orders on its input say, a line of JSON each, and writes what became of them.
const grpc = require('@grpc/grpc-js');
require('@grpc/grpc-js-xds').register();
const readline = require('readline');

const dial = (target) => new grpc.Client(target, grpc.credentials.createInsecure());
let old, client = dial(process.argv[2]);
const request = Buffer.from('\x0a\x05hello', 'latin1'); // a StringValue
const same = (bytes) => bytes;

function one(order) {
  return new Promise((resolve) => {
    const metadata = new grpc.Metadata({waitForReady: order.wait});
    for (const [name, value] of Object.entries(order.metadata || {})) metadata.set(name, value);
    const began = process.hrtime.bigint();
    client.makeUnaryRequest(order.method, same, same, request, metadata, {deadline: Date.now() + order.timeout}, (err, reply) => {
      resolve({err, name: err ? '' : reply.subarray(2).toString(), ms: Number(process.hrtime.bigint() - began) / 1e6});
    });
  });
}

async function call(order) {
  if (order.target) {
    if (old) old.close(); // the one before: without a channel, the stream to the xDS server would end
    [old, client] = [client, dial(order.target)];
  }
  const out = {by: {}, errors: {}, most: 0};
  let left = order.calls;
  const caller = async () => {
    while (left-- > 0) {
      const {err, name, ms} = await one(order);
      out.most = Math.max(out.most, ms);
      if (err) out.errors[`${err.code} ${err.details}`] = (out.errors[`${err.code} ${err.details}`] || 0) + 1;
      else out.by[name] = (out.by[name] || 0) + 1;
    }
  };
  await Promise.all(Array.from({length: Math.max(1, order.at)}, caller));
  return out;
}

let last = Promise.resolve();
readline.createInterface({input: process.stdin}).on('line', (line) => {
  last = last.then(async () => console.log(JSON.stringify(await call(JSON.parse(line)))));
}).on('close', () => process.exit(0));
