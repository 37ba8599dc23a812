/* Have a validator of a development chain slashed, with the libraries of Lodestar:

    node slash.mjs LODESTAR URL INDEX

Interop validator INDEX signs two blocks for one slot, and whoever shows both to the chain is believed
(process_proposer_slashing of the consensus specification).
*/

const [lodestar, url, number] = process.argv.slice(2);
const modules = `${lodestar}/node_modules`;
const {ssz} = await import(`${modules}/@lodestar/types/lib/index.js`);
const {interopSecretKey} = await import(`${modules}/@lodestar/state-transition/lib/util/interop.js`);
const {fromHexString, toHexString} = await import(`${modules}/@chainsafe/ssz/lib/index.js`);

const DOMAIN_BEACON_PROPOSER = Uint8Array.of(0, 0, 0, 0);
const index = Number(number);

async function get(path) {
  const answer = await fetch(`${url}${path}`);
  if (!answer.ok) throw new Error(`${path}: HTTP status ${answer.status}`);
  return (await answer.json()).data;
}

const {genesis_validators_root: root} = await get("/eth/v1/beacon/genesis");
const {current_version: version} = await get("/eth/v1/beacon/states/head/fork");
const {header} = await get("/eth/v1/beacon/headers/head");
const fork = ssz.phase0.ForkData.hashTreeRoot({
  currentVersion: fromHexString(version),
  genesisValidatorsRoot: fromHexString(root),
});
const domain = Uint8Array.from([...DOMAIN_BEACON_PROPOSER, ...fork.slice(0, 28)]);

/** Return a signed header in the form of the API; ``body`` makes it another one. */
function signed(body) {
  const message = {
    slot: Number(header.message.slot),
    proposerIndex: index,
    parentRoot: fromHexString(header.message.parent_root),
    stateRoot: fromHexString(header.message.state_root),
    bodyRoot: new Uint8Array(32).fill(body),
  };
  const objectRoot = ssz.phase0.BeaconBlockHeader.hashTreeRoot(message);
  const signingRoot = ssz.phase0.SigningData.hashTreeRoot({objectRoot, domain});
  const signature = interopSecretKey(index).sign(signingRoot).toBytes();
  return {
    message: ssz.phase0.BeaconBlockHeader.toJson(message),
    signature: toHexString(signature),
  };
}

const done = await fetch(`${url}/eth/v1/beacon/pool/proposer_slashings`, {
  method: "POST",
  headers: {"content-type": "application/json"},
  body: JSON.stringify({signed_header_1: signed(1), signed_header_2: signed(2)}),
});
if (!done.ok) throw new Error(`HTTP status ${done.status}: ${await done.text()}`);
