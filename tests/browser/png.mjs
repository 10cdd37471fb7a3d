// Makes pictures of pages small: a page has few colours, so that a palette of 256 holds them.

import { deflateSync, inflateSync } from 'node:zlib';

const SIGNATURE = Buffer.from('89504e470d0a1a0a', 'hex');
const COLOURS = 256;

/** The picture `png`, of 8 bits in RGB or RGBA without interlacing as browsers make it, with a palette. */
export function smaller(png) {
  const { width, height, depth, rows } = decode(png);
  const used = new Map();
  for (let at = 0; at < rows.length; at += depth) {
    const colour = (rows[at] << 16) | (rows[at + 1] << 8) | rows[at + 2];
    used.set(colour, (used.get(colour) ?? 0) + 1);
  }
  // The most frequent ones stay as they are; each other one becomes the nearest of them.
  const palette = [...used]
    .sort((one, other) => other[1] - one[1])
    .slice(0, COLOURS)
    .map(([colour]) => colour);
  const places = new Map(palette.map((colour, at) => [colour, at]));
  const near = (colour) => {
    let [best, least] = [0, Infinity];
    palette.forEach((one, at) => {
      const off = [16, 8, 0].reduce((sum, bits) => sum + (((one >> bits) & 255) - ((colour >> bits) & 255)) ** 2, 0);
      if (off < least) [best, least] = [at, off];
    });
    return best;
  };
  const indexed = Buffer.alloc((width + 1) * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = (y * width + x) * depth;
      const colour = (rows[at] << 16) | (rows[at + 1] << 8) | rows[at + 2];
      if (!places.has(colour)) places.set(colour, near(colour));
      indexed[y * (width + 1) + 1 + x] = places.get(colour);
    }
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  // 8 bits, a palette, deflate, filters by row, no interlacing.
  header.set([8, 3, 0, 0, 0], 8);
  const colours = Buffer.from(palette.flatMap((colour) => [colour >> 16, (colour >> 8) & 255, colour & 255]));
  const data = deflateSync(indexed, { level: 9, memLevel: 9 });
  const made = [chunk('IHDR', header), chunk('PLTE', colours), chunk('IDAT', data), chunk('IEND', Buffer.alloc(0))];
  return Buffer.concat([SIGNATURE, ...made]);
}

function decode(png) {
  const data = [];
  let header;
  for (let at = SIGNATURE.length; at < png.length; ) {
    const [length, name] = [png.readUInt32BE(at), png.toString('latin1', at + 4, at + 8)];
    const body = png.subarray(at + 8, at + 8 + length);
    if (name === 'IHDR') header = body;
    if (name === 'IDAT') data.push(body);
    at += length + 12;
  }
  const [width, height, bits, kind] = [header.readUInt32BE(0), header.readUInt32BE(4), header[8], header[9]];
  const depth = { 2: 3, 6: 4 }[kind];
  if (bits !== 8 || !depth || header[12] !== 0) throw new Error(`a picture of kind ${kind} with ${bits} bits`);
  return { width, height, depth, rows: unfilter(inflateSync(Buffer.concat(data)), width * depth, height, depth) };
}

/** What the bytes of each row were before they were told as differences. */
function unfilter(raw, length, height, depth) {
  const rows = Buffer.alloc(length * height);
  for (let y = 0; y < height; y += 1) {
    const [filter, from, to] = [raw[y * (length + 1)], y * (length + 1) + 1, y * length];
    for (let x = 0; x < length; x += 1) {
      const left = x >= depth ? rows[to + x - depth] : 0;
      const up = y > 0 ? rows[to + x - length] : 0;
      const corner = y > 0 && x >= depth ? rows[to + x - length - depth] : 0;
      const guess = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter];
      rows[to + x] = raw[from + x] + guess;
    }
  }
  return rows;
}

function paeth(left, up, corner) {
  const [a, b, c] = [left, up, corner].map((one) => Math.abs(left + up - corner - one));
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

function chunk(name, body) {
  const made = Buffer.alloc(body.length + 12);
  made.writeUInt32BE(body.length, 0);
  made.write(name, 4, 'latin1');
  body.copy(made, 8);
  made.writeUInt32BE(crc(made.subarray(4, -4)), body.length + 8);
  return made;
}

function crc(bytes) {
  let sum = ~0;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}
