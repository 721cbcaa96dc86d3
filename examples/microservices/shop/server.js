// The shop: puts articles into the cart. It needs no sign-in.

import express from 'express';
import { Redis } from 'ioredis';
import { Sessions, Value, ioredis, sessionOf } from '@coatcheck/session';
import { expressErrors, expressSessions } from '@coatcheck/session/express';

const articles = ['tea', 'cup', 'pot'];
const cart = new Value('shop.cart'); // how many of each article

const sessions = new Sessions(ioredis(new Redis(process.env.REDIS_URL)), {
  keys: [Buffer.from(process.env.SESSION_KEY, 'hex')],
  userKey: Buffer.from(process.env.USER_KEY, 'hex'),
});

const app = express();
app.get('/shop/health', (_request, response) => void response.send('ok'));
app.use(express.urlencoded({ extended: false }));
app.use(expressSessions(sessions));

app.get('/shop/', async (request, response) => {
  const session = await sessionOf(request);
  const inCart = cart.get(session) ?? {};
  const counts = articles.map((name) => [name, inCart[name] ?? 0]);
  response.send(page(session.user ?? 'nobody', counts));
});

app.post('/shop/add', async (request, response) => {
  const { article } = request.body ?? {};
  if (!articles.includes(article)) return void response.status(400).send('no such article');
  await cart.update(await sessionOf(request), (old = {}) => ({ ...old, [article]: (old[article] ?? 0) + 1 }));
  response.redirect(303, '/shop/');
});

app.use(expressErrors(sessions));
app.listen(Number(process.env.PORT), '127.0.0.1');

const marks = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const escape = (text) => text.replace(/[&<>"]/g, (mark) => marks[mark]);

function page(user, counts) {
  const total = counts.reduce((sum, [, n]) => sum + n, 0);
  const rows = counts.map(
    ([name, n]) => `<tr><td>${name}</td><td>${n}</td>
<td><button id="add-${name}" name="article" value="${name}">Add</button></td></tr>`,
  );
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Shop</title>
<link rel="stylesheet" href="/style.css">
<h1>Shop, in Node</h1>
<nav><a href="/">Start</a> <a href="/ledger/">Order</a></nav>
<p>You are <strong id="user">${escape(user)}</strong>.</p>
<form method="post" action="/shop/add">
<table><tr><th>Article</th><th>In the cart</th><th></th></tr>
${rows.join('\n')}
</table>
</form>
<p>Articles: <span id="articles">${total}</span></p>
</html>`;
}
