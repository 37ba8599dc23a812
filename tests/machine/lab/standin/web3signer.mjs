/* Stand-in for Web3Signer (https://docs.web3signer.consensys.io), with the BLS library of Lodestar.

    node web3signer.mjs LODESTAR FOLDER PORT

It signs with the interop secrets whose numbers are in FOLDER/keys, one on a line, read anew for each
question, over TLS with FOLDER/key.pem and FOLDER/certificate.pem. What it has signed is in
FOLDER/signed, a line of JSON each. A request that is not as the API has it is answered with 400 and
is in FOLDER/refused; an attestation or block that is not above the last one with 412.
*/

import {createHash} from "node:crypto";
import {appendFileSync, readFileSync} from "node:fs";
import https from "node:https";

const [lodestar, folder, port] = process.argv.slice(2);
const {default: bls} = await import(`${lodestar}/node_modules/@chainsafe/bls/lib/blst-native/index.js`);

// What is signed, and where it is in the request (signing/schemas.yaml of the API).
const CONTENT = {
  AGGREGATION_SLOT: "aggregation_slot",
  AGGREGATE_AND_PROOF: "aggregate_and_proof",
  ATTESTATION: "attestation",
  BLOCK_V2: "beacon_block",
  RANDAO_REVEAL: "randao_reveal",
  VOLUNTARY_EXIT: "voluntary_exit",
  SYNC_COMMITTEE_MESSAGE: "sync_committee_message",
  SYNC_COMMITTEE_SELECTION_PROOF: "sync_aggregator_selection_data",
  SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF: "contribution_and_proof",
  VALIDATOR_REGISTRATION: "validator_registration",
};
const ORDER = 52435875175126190479447740508185965837690552500527637822603658699938581184513n;
const ROOT = /^0x[0-9a-f]{64}$/;
const VERSION = /^0x[0-9a-f]{8}$/;
const NUMBER = /^(0|[1-9][0-9]*)$/;
const last = new Map();

/** Secret i is SHA-256 of i in 32 little-endian bytes, read so, modulo the order. */
function secret(index) {
  const raw = Buffer.alloc(32);
  raw.writeUInt32LE(index);
  const digest = createHash("sha256").update(raw).digest().reverse().toString("hex");
  const number = BigInt(`0x${digest}`) % ORDER;
  return bls.SecretKey.fromBytes(Buffer.from(number.toString(16).padStart(64, "0"), "hex"));
}

function keys() {
  const found = new Map();
  for (const line of readFileSync(`${folder}/keys`, "utf8").split("\n").filter(Boolean)) {
    const one = secret(Number(line));
    found.set(`0x${Buffer.from(one.toPublicKey().toBytes()).toString("hex")}`, one);
  }
  return found;
}

function need(holds, what) {
  if (!holds) throw new Error(what);
}

function checked(request, body) {
  need(request.headers["content-type"]?.startsWith("application/json"), "no JSON");
  const asked = JSON.parse(body);
  const content = CONTENT[asked.type];
  need(content, `type ${asked.type}`);
  need(typeof asked[content] === "object" && asked[content] !== null, `no ${content}`);
  need(ROOT.test(asked.signingRoot), "no signingRoot");
  if (asked.type !== "VALIDATOR_REGISTRATION") {
    const {fork, genesis_validators_root: root} = asked.fork_info ?? {};
    need(ROOT.test(root), "no genesis_validators_root");
    need(VERSION.test(fork?.previous_version) && VERSION.test(fork?.current_version), "no fork");
    need(NUMBER.test(fork.epoch), "no epoch of the fork");
  }
  return asked;
}

/** Its own slashing protection: the same again, or what is above all before. */
function allowed(key, asked) {
  let height;
  if (asked.type === "ATTESTATION") {
    need(NUMBER.test(asked.attestation.source?.epoch), "no source");
    need(NUMBER.test(asked.attestation.target?.epoch), "no target");
    height = Number(asked.attestation.target.epoch);
  } else if (asked.type === "BLOCK_V2") {
    const block = asked.beacon_block;
    need(typeof block.version === "string", "no version");
    const header = block.block_header ?? block.block;
    need(NUMBER.test(header?.slot), "no slot");
    height = Number(header.slot);
  } else {
    return true;
  }
  const place = `${key} ${asked.type}`;
  const before = last.get(place) ?? {height: -1, root: ""};
  if (height < before.height || (height === before.height && asked.signingRoot !== before.root)) return false;
  last.set(place, {height, root: asked.signingRoot});
  return true;
}

function sign(request, key, body) {
  const own = keys().get(key.toLowerCase());
  if (!own) return [404, "text/plain", "Public Key not found"];
  let asked;
  try {
    asked = checked(request, body);
    if (!allowed(key, asked)) return [412, "text/plain", "slashing protection"];
  } catch (problem) {
    appendFileSync(`${folder}/refused`, `${problem.message}: ${body}\n`);
    return [400, "text/plain", `Bad request: ${problem.message}`];
  }
  const made = own.sign(Buffer.from(asked.signingRoot.slice(2), "hex")).toBytes();
  appendFileSync(`${folder}/signed`, `${JSON.stringify({key, type: asked.type})}\n`);
  const signature = `0x${Buffer.from(made).toString("hex")}`;
  if (request.headers.accept?.startsWith("text/plain")) return [200, "text/plain", signature];
  return [200, "application/json", JSON.stringify({signature})];
}

function answer(request, body) {
  const {method, url} = request;
  if (method === "GET" && url === "/upcheck") return [200, "text/plain", "OK"];
  if (method === "GET" && url === "/api/v1/eth2/publicKeys")
    return [200, "application/json", JSON.stringify([...keys().keys()])];
  const found = /^\/api\/v1\/eth2\/sign\/(0x[0-9a-fA-F]{96})$/.exec(url);
  if (method === "POST" && found) return sign(request, found[1], body);
  return [404, "text/plain", "Not found"];
}

const tls = {key: readFileSync(`${folder}/key.pem`), cert: readFileSync(`${folder}/certificate.pem`)};
https
  .createServer(tls, (request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      const [status, type, text] = answer(request, Buffer.concat(parts).toString());
      response.writeHead(status, {"Content-Type": type}).end(text);
    });
  })
  .listen(Number(port), "127.0.0.1");
