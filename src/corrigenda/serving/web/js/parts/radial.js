// Where the points of a graph stand: the hub in the middle, what is one step away around it, and so on.
//
// A radial tree: each point has a sector as wide as what hangs on it, so that nothing crosses more than
// it must, and the same graph is always drawn alike.

/** {id: {x, y, side}} in a field of width × height; side says where a label has room. */
export function radial(nodes, edges, hub, width, height) {
  const near = new Map(nodes.map((n) => [n.id, []]));
  for (const { source, target } of edges) {
    near.get(source)?.push(target);
    near.get(target)?.push(source);
  }
  const centre = near.has(hub) ? hub : nodes[0]?.id;
  const children = new Map(nodes.map((n) => [n.id, []]));
  const depth = new Map([[centre, 0]]);
  const walk = (queue) => {
    for (const id of queue) {
      for (const next of near.get(id)) {
        if (depth.has(next)) continue;
        depth.set(next, depth.get(id) + 1);
        children.get(id).push(next);
        queue.push(next);
      }
    }
  };
  walk([centre]);
  // What hangs on nothing that is drawn stands in the first ring, the best connected first.
  const rest = [...nodes].sort((a, b) => near.get(b.id).length - near.get(a.id).length);
  for (const { id } of rest) {
    if (depth.has(id)) continue;
    depth.set(id, 1);
    children.get(centre).push(id);
    walk([id]);
  }

  const leaves = new Map();
  const weigh = (id) => {
    const sum = children.get(id).reduce((total, child) => total + weigh(child), 0);
    leaves.set(id, Math.max(depth.get(id) === 1 ? 2 : 1, sum)); // the inner ring is short of room
    return leaves.get(id);
  };
  weigh(centre);
  const rings = Math.max(1, ...depth.values());
  const [rx, ry] = [width / 2 / rings, height / 2 / rings];
  const out = {};
  const place = (id, from, to) => {
    const angle = (from + to) / 2;
    const ring = depth.get(id);
    out[id] = { x: Math.cos(angle) * rx * ring, y: Math.sin(angle) * ry * ring, side: ring ? side(angle) : "bottom" };
    let at = from;
    for (const child of children.get(id)) {
      const share = ((to - from) * leaves.get(child)) / leaves.get(id);
      place(child, at, at + share);
      at += share;
    }
  };
  place(centre, -Math.PI / 2, 1.5 * Math.PI);
  return out;
}

function side(angle) {
  const [x, y] = [Math.cos(angle), Math.sin(angle)];
  if (Math.abs(x) > 0.75) return x > 0 ? "right" : "left";
  return y > 0 ? "bottom" : "top";
}
